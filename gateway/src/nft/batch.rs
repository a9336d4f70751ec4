//! One transaction of the kernel's nftables: all of it happens, or nothing.

use std::ops::Range;
use std::time::Duration;

use netlink_bindings::nftables::{Chained, ChainedFinal, Nfgenmsg};
use netlink_bindings::traits::NetlinkChained as _;

use super::expression::{Expression, Family};
use super::rules::{Chain, Key, Set, TABLE};

/// Family of the table (`NFPROTO_INET`) and of everything in it.
const INET: u8 = 1;
/// Number of the nftables subsystem (`NFNL_SUBSYS_NFTABLES`), which a batch is for.
const SUBSYSTEM: u16 = 10;
/// Number of the first message.
const FIRST: u32 = 1;
/// Elements in one message: their attribute must be shorter than 64 KiB.
const ELEMENTS: usize = 1000;
/// Flag of a set whose elements may vanish (`NFT_SET_TIMEOUT`).
const TIMED: u32 = 1 << 4;
/// Types of sets' keys, so that `nft list` can show them.
const TYPE_FAMILY: u32 = 2;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_BITS: u32 = 6;

/// A transaction in the making.
pub(super) struct Batch {
    chained: Chained<'static>,
    sets: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut chained = Chained::new(FIRST);
        let mut header = Nfgenmsg::new();
        header.set_res_id(SUBSYSTEM);
        chained.request().op_batch_begin_do(&header);
        Self { chained, sets: 0 }
    }

    /// Ends the transaction.
    pub(super) fn finish(mut self) -> ChainedFinal<'static> {
        let mut header = Nfgenmsg::new();
        header.set_res_id(SUBSYSTEM);
        self.chained.request().op_batch_end_do(&header);
        self.chained.finalize()
    }

    /// Adds the table; nothing happens if there is one.
    pub(super) fn add_table(&mut self) {
        let mut request = self.chained.request().set_create().op_newtable_do(&header());
        request.encode().push_name_bytes(TABLE.as_bytes()).push_flags(0);
    }

    /// Removes the table and all that is in it.
    pub(super) fn delete_table(&mut self) {
        let mut request = self.chained.request().op_deltable_do(&header());
        request.encode().push_name_bytes(TABLE.as_bytes());
    }

    /// Adds a chain without its rules; nothing happens if there is one like it.
    pub(super) fn add_chain(&mut self, chain: &Chain) {
        let mut request = self.chained.request().set_create().op_newchain_do(&header());
        let attributes = request.encode().push_table_bytes(TABLE.as_bytes()).push_name_bytes(chain.name.as_bytes());
        if let Some(hook) = &chain.hook {
            let attributes = attributes.nested_hook().push_num(hook.number).push_priority(hook.priority).end_nested();
            attributes.push_type(hook.kind);
        }
    }

    /// Removes all rules of a chain.
    pub(super) fn flush_chain(&mut self, chain: &Chain) {
        let mut request = self.chained.request().op_delrule_do(&header());
        request.encode().push_table_bytes(TABLE.as_bytes()).push_chain_bytes(chain.name.as_bytes());
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(&mut self, chain: &Chain, rule: &[Expression]) {
        let mut request = self.chained.request().set_create().set_append().op_newrule_do(&header());
        let attributes = request.encode().push_table_bytes(TABLE.as_bytes()).push_chain_bytes(chain.name.as_bytes());
        let list = attributes.nested_expressions();
        rule.iter().fold(list, |list, expression| expression.push(list)).end_nested();
    }

    /// Adds an empty set; nothing happens if there is one like it.
    pub(super) fn add_set(&mut self, set: Set) {
        self.sets += 1;
        let address = |family| match family {
            Family::V4 => TYPE_IPV4,
            Family::V6 => TYPE_IPV6,
        };
        let (kind, length, flags) = match set.key {
            Key::Address(family) => (address(family), family.length(), 0),
            Key::Pair(family) => (address(family) << TYPE_BITS | address(family), 2 * family.length(), 0),
            Key::Family => (TYPE_FAMILY, 1, TIMED),
        };
        let mut request = self.chained.request().set_create().op_newset_do(&header());
        let attributes = request.encode().push_table_bytes(TABLE.as_bytes()).push_name_bytes(set.name.as_bytes());
        attributes.push_flags(flags).push_key_type(kind).push_key_len(length).push_id(self.sets);
    }

    /// Removes all elements of a set.
    pub(super) fn flush_set(&mut self, set: Set) {
        let mut request = self.chained.request().op_delsetelem_do(&header());
        request.encode().push_table_bytes(TABLE.as_bytes()).push_set_bytes(set.name.as_bytes());
    }

    /// Adds elements to a set.
    pub(super) fn add_elements(&mut self, set: Set, keys: &[Vec<u8>]) {
        for keys in keys.chunks(ELEMENTS) {
            let mut request = self.chained.request().set_create().op_newsetelem_do(&header());
            push_elements(request.encode(), set, keys);
        }
    }

    /// Adds the numbers of all families to a set, for so long.
    pub(super) fn add_families(&mut self, set: Set, lifetime: Duration) {
        let milliseconds = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut request = self.chained.request().set_create().op_newsetelem_do(&header());
        let attributes = request.encode().push_table_bytes(TABLE.as_bytes()).push_set_bytes(set.name.as_bytes());
        let elements = Family::BOTH.iter().fold(attributes.nested_elements(), |elements, family| {
            let element = elements.nested_elem().nested_key().push_value(&[family.number()]).end_nested();
            // The kernel takes it in the network's order of bytes.
            element.push_timeout(milliseconds.to_be()).end_nested()
        });
        elements.end_nested();
    }

    /// Removes elements from a set.
    pub(super) fn delete_elements(&mut self, set: Set, keys: &[Vec<u8>]) {
        for keys in keys.chunks(ELEMENTS) {
            let mut request = self.chained.request().op_delsetelem_do(&header());
            push_elements(request.encode(), set, keys);
        }
    }
}

fn push_elements<P: netlink_bindings::traits::Pusher>(
    attributes: netlink_bindings::nftables::PushSetelemListAttrs<P>,
    set: Set,
    keys: &[Vec<u8>],
) {
    let attributes = attributes.push_table_bytes(TABLE.as_bytes()).push_set_bytes(set.name.as_bytes());
    let elements = keys.iter().fold(attributes.nested_elements(), |elements, key| {
        elements.nested_elem().nested_key().push_value(key).end_nested().end_nested()
    });
    elements.end_nested();
}

/// The numbers of the messages that every kernel confirms: all but begin and end.
pub(super) fn confirmed(batch: &ChainedFinal<'_>) -> Range<u32> {
    FIRST + 1..FIRST + u32::try_from(batch.chain_len()).unwrap_or(u32::MAX) - 1
}

/// What the message with this number is for.
pub(super) fn part(batch: &ChainedFinal<'_>, number: u32) -> &'static str {
    batch.get_index(number).map_or("batch", |index| batch.name(index))
}

/// The question whether the table is there.
pub(super) fn table_question() -> Vec<u8> {
    let mut chained = Chained::new(FIRST);
    let mut request = chained.request().op_gettable_do(&header());
    request.encode().push_name_bytes(TABLE.as_bytes());
    drop(request);
    chained.finalize().payload().to_vec()
}

fn header() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.nfgen_family = INET;
    header
}
