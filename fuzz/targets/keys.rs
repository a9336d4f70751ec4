//! Keys and identities, as they stand in paths: what is read is written so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinfonia_wire::{ApplicationId, CloudletId, PublicKey};

fuzz_target!(|data: &[u8]| {
    if let Ok(bytes) = <[u8; 32]>::try_from(data) {
        check(PublicKey::from(bytes));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        check(key);
    }
    if let Ok(id) = ApplicationId::resolve(text) {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(text == "helloworld" || text.parse() == Ok(CloudletId::from(id.uuid())));
    }
});

fn check(key: PublicKey) {
    let (standard, url_safe) = (key.to_string(), key.url_safe());
    assert_eq!((standard.len(), url_safe.len()), (44, 43));
    assert_eq!((standard.parse(), url_safe.parse()), (Ok(key), Ok(key)));
    assert!(url_safe.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
    assert_eq!(serde_json::from_str::<PublicKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
}
