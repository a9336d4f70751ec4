//! HTTPS between all three, certified by somebody whom only they trust.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use sinfonia_tests::{Running, World, eventually, free_port};

use crate::setup::FETCH;

/// The files of a certificate for this host and of its key.
fn certify(world: &World) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| world.path(name));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    [certificate, key].map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn a_page_is_fetched_where_everybody_speaks_https() {
    let page = "for whom it concerns";
    let world = World::new();
    let application = world.add_page(page).to_string();
    let [certificate, key] = certify(&world);
    let https = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-ca", &certificate];
    let url = |server: &Running| format!("https://127.0.0.1:{}", server.listens().port());

    let tier1 = world.tier1(&https);
    let port = free_port().to_string();
    let (base, own) = (url(&tier1), format!("https://127.0.0.1:{port}"));
    let options = ["--port", &port, "--tier1-url", &base, "--tier2-url", &own, "--tunnel-endpoint", "127.0.0.1"];
    let tier2 = world.tier2("cloudlet", &[&options[..], &https[..]].concat());
    assert_eq!(url(&tier2), own);

    let trusting = ureq::tls::Certificate::from_pem(&fs::read(&certificate).unwrap()).unwrap();
    let roots = ureq::tls::RootCerts::new_with_certs(&[trusting]);
    let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
    let agent = ureq::Agent::config_builder().tls_config(tls).build().new_agent();
    eventually("the cloudlet's reports are taken", || {
        let mut listed = agent.get(format!("{base}/api/v1/cloudlets/")).call().unwrap();
        listed.body_mut().read_to_string().unwrap().contains(&own)
    });

    let client = |options: &[&str]| world.tier3(&[options, &[&base, &application], &FETCH].concat()).finish();
    let fetched = client(&["--tls-ca", &certificate]);
    assert_eq!((fetched.code(), fetched.output.trim()), (0, page), "{}", fetched.errors);
    let refused = client(&[]);
    assert_ne!(refused.code(), 0);
    assert!(refused.errors.contains("certificate"), "{}", refused.errors);
}
