use super::*;
use proptest::prelude::*;

const V4: &str = "10.96.0.80";
const V6: &str = "fd96::80";

fn zone(addresses: &[&str]) -> Zone {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    Zone::new(&"helloworld".parse().unwrap(), &"vertical-module".parse().unwrap(), &addresses)
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(zone: &Zone, message: &Message) -> Message {
    let answer = zone.answer(&message.to_vec().unwrap()).unwrap();
    assert!(answer.len() <= 512);
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    answer
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn every_name_of_the_backend_resolves_in_any_case() {
    let zone = zone(&[V4, V6]);
    for name in [
        "helloworld.",
        "HelloWorld.",
        "helloworld.vertical-module.svc.cluster.local.",
        "HELLOWORLD.vertical-module.svc.CLUSTER.local.",
        "helloworld.vertical-module.svc.",
        "vertical-module.svc.cluster.local.",
    ] {
        let v4 = ask(&zone, &query(name, RecordType::A));
        assert_eq!((v4.metadata.response_code, addresses(&v4)), (ResponseCode::NoError, vec![V4.into()]), "{name}");
        assert_eq!(v4.answers[0].name.to_ascii(), name, "asked and answered in the same case");
        assert_eq!(addresses(&ask(&zone, &query(name, RecordType::AAAA))), [V6], "{name}");
        assert_eq!(addresses(&ask(&zone, &query(name, RecordType::ANY))), [V4, V6], "{name}");
    }
}

#[test]
fn a_known_name_without_that_kind_of_record_is_no_data() {
    let zone = zone(&[V4]);
    for kind in [RecordType::AAAA, RecordType::MX, RecordType::TXT, RecordType::HTTPS] {
        let answer = ask(&zone, &query("helloworld.", kind));
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty());
    }
}

#[test]
fn other_names_do_not_exist() {
    for name in [
        ".",
        "cluster.local.",
        "example.org.",
        "helloworld.cluster.local.",
        "helloworld.other-name.svc.cluster.local.",
        "a.helloworld.vertical-module.svc.cluster.local.",
    ] {
        let answer = ask(&zone(&[V4]), &query(name, RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.queries.len(), 1);
    }
}

#[test]
fn edns_is_answered_in_kind_and_newer_versions_are_named_bad() {
    let mut message = query("helloworld.", RecordType::A);
    assert!(ask(&zone(&[V4]), &message).edns.is_none());
    message.set_edns(Edns::new());
    let answer = ask(&zone(&[V4]), &message);
    assert_eq!(addresses(&answer), [V4]);
    assert_eq!(answer.edns.unwrap().max_payload(), MAX_PAYLOAD);
    message.edns.as_mut().unwrap().set_version(1);
    let answer = ask(&zone(&[V4]), &message);
    // TSIG's BADSIG has the same number.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert_eq!(answer.edns.unwrap().version(), 0);
}

#[test]
fn what_is_no_plain_query_gets_its_own_code() {
    let zone = zone(&[V4]);
    let mut two = query("helloworld.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(ask(&zone, &two).metadata.response_code, ResponseCode::FormErr);
    let mut chaos = query("helloworld.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&zone, &chaos).metadata.response_code, ResponseCode::Refused);
    let mut notify = query("helloworld.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(ask(&zone, &notify).metadata.response_code, ResponseCode::NotImp);
}

#[test]
fn garbage_after_a_header_is_a_format_error() {
    let mut garbage = query("helloworld.", RecordType::A).to_vec().unwrap();
    garbage.truncate(HEADER_LENGTH + 3);
    let answer = Message::from_vec(&zone(&[V4]).answer(&garbage).unwrap()).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn answers_are_never_answered() {
    let mut message = query("helloworld.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    assert_eq!(zone(&[V4]).answer(&message.to_vec().unwrap()), None);
}

proptest! {
    #[test]
    fn no_input_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Some(answer) = zone(&[V4, V6]).answer(&bytes) {
            prop_assert!(answer.len() <= 512);
            prop_assert!(answer[2] & 0x80 != 0);
            prop_assert_eq!(&answer[..2], &bytes[..2]);
        }
    }

    #[test]
    fn no_damage_to_a_query_breaks_it(at in 0usize..45, to: u8) {
        let mut bytes = query("helloworld.vertical-module.svc.cluster.local.", RecordType::A).to_vec().unwrap();
        bytes[at] = to;
        if let Some(answer) = zone(&[V4, V6]).answer(&bytes) {
            prop_assert!(answer.len() <= 512);
        }
    }
}
