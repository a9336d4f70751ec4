//! The resolver's answers: a pure function from a query message to the answer message.
//!
//! One deployment has one zone. It answers for the backend's names only; everything else does not exist. Negative
//! answers carry no SOA, so that nobody caches them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use sinfonia_wire::{DeploymentName, ServiceName};

#[cfg(test)]
mod tests;

/// Seconds an answer may be cached; small because names live as long as a deployment.
const TTL: u32 = 5;

/// The largest UDP message we say we take (RFC 9715's advice).
const MAX_PAYLOAD: u16 = 1232;

const HEADER_LENGTH: usize = 12;

/// The names of one deployment.
#[derive(Debug, Clone)]
pub struct Zone {
    names: Vec<Name>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Zone {
    /// The names under which `service` of `deployment` is reached at `addresses` (the first of each family counts).
    #[must_use]
    pub fn new(service: &ServiceName, deployment: &DeploymentName, addresses: &[IpAddr]) -> Self {
        let names = [
            format!("{service}."),
            format!("{service}.{deployment}.svc."),
            format!("{service}.{deployment}.svc.cluster.local."),
            format!("{deployment}.svc.cluster.local."),
        ];
        Self {
            // A service and a deployment are DNS labels, so every one of these is a name.
            names: names.iter().filter_map(|name| Name::from_ascii(name).ok()).collect(),
            v4: addresses.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            }),
            v6: addresses.iter().find_map(|address| match address {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            }),
        }
    }

    /// The answer to a query, or nothing for what deserves none: answers, and what is too short to be a message.
    /// Every answer fits into 512 bytes, so UDP needs no truncation.
    #[must_use]
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let header = query.get(..HEADER_LENGTH)?;
        let (id, flags) = (u16::from_be_bytes([header[0], header[1]]), header[2]);
        let is_answer = flags & 0x80 != 0;
        if is_answer {
            return None;
        }
        let reply = match Message::from_vec(query) {
            Ok(message) => self.reply(&message),
            Err(_) => {
                let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
                Message::error_msg(id, op_code, ResponseCode::FormErr)
            }
        };
        reply.to_vec().ok()
    }

    fn reply(&self, message: &Message) -> Message {
        let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_desired = message.metadata.recursion_desired;
        // Stub resolvers distrust an answer without it.
        reply.metadata.recursion_available = true;
        if message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            reply.set_edns(edns);
        }
        match only_query(message) {
            Err(code) => reply.metadata.response_code = code,
            Ok(query) => {
                reply.metadata.authoritative = true;
                reply.add_query(query.clone());
                if self.names.contains(query.name()) {
                    reply.add_answers(self.records(query));
                } else {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                }
            }
        }
        reply
    }

    fn records(&self, query: &Query) -> impl Iterator<Item = Record> {
        let wants = |kind| query.query_type() == kind || query.query_type() == RecordType::ANY;
        let v4 = self.v4.filter(|_| wants(RecordType::A)).map(|v4| RData::A(A(v4)));
        let v6 = self.v6.filter(|_| wants(RecordType::AAAA)).map(|v6| RData::AAAA(AAAA(v6)));
        v4.into_iter().chain(v6).map(|data| Record::from_rdata(query.name().clone(), TTL, data))
    }
}

/// What a plain query asks, or the code that says why a message is none.
fn only_query(message: &Message) -> Result<&Query, ResponseCode> {
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(ResponseCode::BADVERS);
    }
    if message.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    match message.queries.as_slice() {
        [query] if matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) => Ok(query),
        [_] => Err(ResponseCode::Refused),
        _ => Err(ResponseCode::FormErr),
    }
}
