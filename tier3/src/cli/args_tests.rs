use super::*;

const HELLOWORLD: &str = "00000000-0000-0000-0000-000000000000";
const URL: &str = "http://127.0.0.1:5000";

fn parse(words: &[&str]) -> Result<Invocation, clap::Error> {
    let words = std::iter::once("sinfonia-tier3").chain(words.iter().copied());
    Args::try_parse_from(words).and_then(Args::into_invocation)
}

fn command(words: &[&str]) -> Task {
    Task::Run(words.iter().map(OsString::from).collect())
}

#[test]
fn the_usual_form() {
    let invocation = parse(&[URL, "helloworld", "curl", "http://helloworld/"]).unwrap();
    assert_eq!(invocation.url.unwrap().as_str(), "http://127.0.0.1:5000/");
    assert_eq!(invocation.application.to_string(), HELLOWORLD);
    assert_eq!(invocation.task, command(&["curl", "http://helloworld/"]));
    assert_eq!((invocation.results, invocation.release, invocation.debug), (1, false, false));
    assert_eq!(invocation.handshake_limit, Duration::from_secs(5));
}

#[test]
fn options_after_the_application_are_its_own() {
    let words = ["sh", "--debug", "-c", "--", "x", "--release", "--version", "--help"];
    let invocation = parse(&[&["--results", "2", URL, HELLOWORLD], &words[..]].concat()).unwrap();
    assert_eq!(invocation.task, command(&words));
    assert_eq!((invocation.results, invocation.release, invocation.debug), (2, false, false));
    let invocation = parse(&[URL, "--debug", HELLOWORLD, "sh", "--release"]).unwrap();
    assert!(invocation.debug && !invocation.release);
}

#[test]
fn every_option() {
    let invocation = parse(&[
        "--debug",
        "--release",
        "--results=3",
        "--handshake-timeout",
        "0.5",
        "--location",
        "-40.4,-79.9",
        URL,
        HELLOWORLD,
        "true",
    ])
    .unwrap();
    assert!(invocation.debug && invocation.release);
    assert_eq!(invocation.results, 3);
    assert_eq!(invocation.handshake_limit, Duration::from_millis(500));
    assert_eq!(invocation.location.unwrap().lat(), -40.4);
}

#[test]
fn exports_need_no_command() {
    assert_eq!(parse(&["--config-debug", URL, HELLOWORLD]).unwrap().task, Task::ConfigDebug);
    let qr = parse(&["--qrcode", "compact", URL, HELLOWORLD]).unwrap().task;
    assert_eq!(qr, Task::Qr(QrStyle::Compact, Vec::new()));
    let qr = parse(&["--qrcode", "alt", URL, HELLOWORLD, "edu.cmu.cs.openrtist"]).unwrap().task;
    assert_eq!(qr, Task::Qr(QrStyle::Alt, vec!["edu.cmu.cs.openrtist".into()]));
    assert!(parse(&["--qrcode", "alt", URL, HELLOWORLD, "a\nPrivateKey = x"]).is_err());
}

#[test]
fn a_sidecar_may_run_nothing() {
    let invocation = parse(&["--sidecar", URL, HELLOWORLD]).unwrap();
    assert!(invocation.sidecar);
    assert_eq!(invocation.task, Task::Keep);
    let invocation = parse(&["--sidecar", URL, HELLOWORLD, "fetch", "http://helloworld/"]).unwrap();
    assert_eq!(invocation.task, command(&["fetch", "http://helloworld/"]));
}

#[test]
fn zeroconf_needs_no_url() {
    let invocation = parse(&["--zeroconf", "helloworld", "curl", "--debug"]).unwrap();
    assert_eq!((invocation.url, invocation.zeroconf), (None, true));
    assert_eq!(invocation.task, command(&["curl", "--debug"]));
    let invocation = parse(&["--zeroconf", URL, "helloworld", "curl"]).unwrap();
    assert_eq!(invocation.url.unwrap().as_str(), "http://127.0.0.1:5000/");
    assert_eq!(invocation.task, command(&["curl"]));
}

#[test]
fn what_is_wrong_is_named() {
    for (words, expected) in [
        (&[][..], "tier1-url"),
        (&[URL], "UUID or alias is missing"),
        (&[URL, HELLOWORLD], "application to run is missing"),
        (&["127.0.0.1:5000", HELLOWORLD, "true"], "`127.0.0.1:5000` is not a URL"),
        (&[URL, "nosuch", "true"], "`nosuch` is no application"),
        (&["--results", "0", URL, HELLOWORLD, "true"], "--results"),
        (&["--results", "4", URL, HELLOWORLD, "true"], "--results"),
        (&["--location", "91,0", URL, HELLOWORLD, "true"], "--location"),
        (&["--handshake-timeout", "0", URL, HELLOWORLD, "true"], "--handshake-timeout"),
        (&["--handshake-timeout", "NaN", URL, HELLOWORLD, "true"], "--handshake-timeout"),
        (&["--qrcode", "huge", URL, HELLOWORLD], "--qrcode"),
        (&["--qrcode", "alt", "--config-debug", URL, HELLOWORLD], "--config-debug"),
        (&["--sidecar", "--results", "2", URL, HELLOWORLD], "--results"),
        (&["--nonsense", URL, HELLOWORLD, "true"], "--nonsense"),
    ] {
        let error = parse(words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(expected), "{words:?}: {error}");
    }
}

#[test]
fn clap_agrees_with_itself() {
    Args::command().debug_assert();
}
