//! The expressions that rules are made of, and their form on the wire (`linux/netfilter/nf_tables.h`).

use netlink_bindings::nftables::PushExprListAttrs;
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

/// First 16-byte register (`NFT_REG_1`); it overlaps the 4-byte registers 8 to 11.
const REGISTER: u32 = 1;
/// Second 4-byte register (`NFT_REG32_01`): the second field of a concatenation of IPv4 addresses.
const SECOND_SMALL: u32 = 9;
/// Second 16-byte register (`NFT_REG_2`): the second field of a concatenation of IPv6 addresses.
const SECOND_LARGE: u32 = 2;
/// The register whose value is a verdict (`NFT_REG_VERDICT`).
const VERDICT: u32 = 0;

const CMP_EQUAL: u32 = 0;
const CMP_NOT_EQUAL: u32 = 1;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const CT_STATE: u32 = 0;
const GOTO: u32 = (-4_i32).cast_unsigned();

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
pub(super) const ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`.
pub(super) const RELATED: u32 = 1 << 2;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family's number (`NFPROTO_*`).
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// Bytes of an address.
    pub(super) const fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where the address stands in the IP header.
    const fn offset(self, end: End) -> u32 {
        match (self, end) {
            (Self::V4, End::Source) => 12,
            (Self::V4, End::Destination) => 16,
            (Self::V6, End::Source) => 8,
            (Self::V6, End::Destination) => 24,
        }
    }

    const fn second_register(self) -> u32 {
        match self {
            Self::V4 => SECOND_SMALL,
            Self::V6 => SECOND_LARGE,
        }
    }
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Keys of packet metadata (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    InputInterface,
    OutputInterface,
    Family,
    Protocol,
}

impl Meta {
    const fn key(self) -> u32 {
        match self {
            Self::InputInterface => 6,
            Self::OutputInterface => 7,
            Self::Family => 15,
            Self::Protocol => 16,
        }
    }
}

/// One step in a rule; a rule's verdict is reached when all steps before it match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// Loads metadata.
    Meta(Meta),
    /// Loads an address, as the first field or the only one.
    Address(Family, End),
    /// Loads an address as the second field of a concatenation.
    SecondAddress(Family, End),
    /// Loads a port.
    Port(End),
    /// Loads the state of the packet's connection.
    ConnectionState,
    /// Keeps some bits of what was loaded.
    Mask(Vec<u8>),
    /// Goes on if what was loaded is this.
    Equals(Vec<u8>),
    /// Goes on if what was loaded is not this.
    Differs(Vec<u8>),
    /// Goes on if what was loaded is in this set.
    IsIn(&'static str),
    /// Lets the packet pass.
    Accept,
    /// Ends the packet.
    Drop,
    /// Goes on in this chain.
    GoTo(&'static str),
    /// Replaces the source by the address of the interface that the packet leaves by.
    Masquerade,
}

impl Expression {
    /// Goes on if the packet is of this family.
    pub(super) fn is_family(family: Family) -> [Self; 2] {
        [Self::Meta(Meta::Family), Self::Equals(vec![family.number()])]
    }

    /// Goes on if the connection's state is one of `states`.
    pub(super) fn state_in(states: u32) -> [Self; 3] {
        [Self::ConnectionState, Self::Mask(states.to_ne_bytes().into()), Self::Differs(vec![0; 4])]
    }

    /// Appends the expression to a rule.
    pub(super) fn push<P: Pusher>(&self, list: PushExprListAttrs<P>) -> PushExprListAttrs<P> {
        let element = list.nested_elem();
        match self {
            Self::Meta(meta) => {
                element.nested_data_meta().push_dreg(REGISTER).push_key(meta.key()).end_nested().end_nested()
            }
            Self::Address(family, end) => load(element, REGISTER, BASE_NETWORK, family.offset(*end), family.length()),
            Self::SecondAddress(family, end) => {
                load(element, family.second_register(), BASE_NETWORK, family.offset(*end), family.length())
            }
            Self::Port(End::Source) => load(element, REGISTER, BASE_TRANSPORT, 0, 2),
            Self::Port(End::Destination) => load(element, REGISTER, BASE_TRANSPORT, 2, 2),
            Self::ConnectionState => {
                element.nested_data_ct().push_dreg(REGISTER).push_key(CT_STATE).end_nested().end_nested()
            }
            Self::Mask(mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                let bitwise = element.nested_data_bitwise().push_sreg(REGISTER).push_dreg(REGISTER).push_len(length);
                let bitwise = bitwise.nested_mask().push_value(mask).end_nested();
                bitwise.nested_xor().push_value(&vec![0; mask.len()]).end_nested().end_nested().end_nested()
            }
            Self::Equals(value) => compare(element, CMP_EQUAL, value),
            Self::Differs(value) => compare(element, CMP_NOT_EQUAL, value),
            Self::IsIn(set) => lookup(element, set),
            Self::Accept => verdict(element, 1, None),
            Self::Drop => verdict(element, 0, None),
            Self::GoTo(chain) => verdict(element, GOTO, Some(chain)),
            Self::Masquerade => element.push_name(c"masq").end_nested(),
        }
    }
}

type Element<P> = netlink_bindings::nftables::PushExprAttrs<PushExprListAttrs<P>>;

fn load<P: Pusher>(element: Element<P>, to: u32, base: u32, offset: u32, length: u32) -> PushExprListAttrs<P> {
    let payload = element.nested_data_payload().push_dreg(to).push_base(base);
    payload.push_offset(offset).push_len(length).end_nested().end_nested()
}

fn compare<P: Pusher>(element: Element<P>, operation: u32, value: &[u8]) -> PushExprListAttrs<P> {
    let compare = element.nested_data_cmp().push_sreg(REGISTER).push_op(operation);
    compare.nested_data().push_value(value).end_nested().end_nested().end_nested()
}

/// By hand: the specification that the bindings are made from numbers these attributes otherwise than the kernel does
/// (`enum nft_lookup_attributes`).
fn lookup<P: Pusher>(mut element: Element<P>, set: &str) -> PushExprListAttrs<P> {
    const DATA: u16 = 2;
    const SET: u16 = 1;
    const SOURCE_REGISTER: u16 = 2;
    element = element.push_name(c"lookup");
    let buffer = element.as_vec_mut();
    let nested = push_nested_header(buffer, DATA);
    push_header(buffer, SET, u16::try_from(set.len() + 1).unwrap_or(u16::MAX));
    buffer.extend(set.bytes().chain([0]));
    push_header(buffer, SOURCE_REGISTER, 4);
    buffer.extend(REGISTER.to_be_bytes());
    finalize_nested_header(buffer, nested);
    element.end_nested()
}

fn verdict<P: Pusher>(element: Element<P>, code: u32, chain: Option<&str>) -> PushExprListAttrs<P> {
    let verdict = element.nested_data_immediate().push_dreg(VERDICT).nested_data().nested_verdict().push_code(code);
    let verdict = match chain {
        Some(chain) => verdict.push_chain_bytes(chain.as_bytes()),
        None => verdict,
    };
    verdict.end_nested().end_nested().end_nested().end_nested()
}
