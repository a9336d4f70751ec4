//! Private keys are in files that only their owner can read, and nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sinfonia_tests::{Collector, World, eventually};

use crate::setup::Setup;

#[test]
fn private_keys_are_nowhere_but_in_files_of_their_owner() {
    let collector = Collector::start();
    let world = World::new();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("RUST_LOG", "trace"),
    ] {
        world.set(name, value);
    }
    let application = world.add_page("seen").to_string();
    let setup = Setup::with(world, &[]);
    let script = "busybox wget -q -O- http://helloworld/; echo; exec sleep 1000";
    let client = setup.client(&["--debug"], &application, &["sh", "-c", script]);
    eventually("the client has the page", || client.output().contains("seen\n"));

    let kept = [setup.world.path("cloudlet/private-key"), setup.world.path("home/.cache/sinfonia").join(&application)];
    let needles: Vec<Vec<u8>> = kept.iter().flat_map(|file| forms(&key_in(file))).collect();
    let clean = |what: &str, bytes: &[u8]| {
        for needle in &needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "a private key is in {what}");
        }
    };

    let processes = setup.world.processes();
    for name in ["sinfonia-tier1", "sinfonia-tier2", "sinfonia-tier3", "sinfonia-netns"] {
        assert!(processes.iter().any(|(_, process)| name.starts_with(process.as_str())), "{name}: {processes:?}");
    }
    for (pid, name) in &processes {
        for part in ["cmdline", "environ"] {
            // The kernel hides the environment of processes with more rights than ours, as it does from everybody.
            clean(&format!("{part} of {name}"), &fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default());
        }
    }

    client.signal("TERM");
    let finished = client.finish();
    let logs = [finished.errors, finished.output, setup.tier1.log(), setup.tier2.log()];
    assert!(logs[0].contains("TRACE") && logs[3].contains("TRACE"), "the logs say all there is to say");
    logs.iter().for_each(|log| clean("a log", log.as_bytes()));
    for tier in ["sinfonia-tier1", "sinfonia-tier2", "sinfonia-tier3"] {
        eventually(tier, || collector.spans().iter().any(|(service, _)| service == tier));
    }
    clean("telemetry", &collector.raw());

    let holds_key = |file: &PathBuf| {
        let content = fs::read(file).unwrap();
        needles.iter().any(|needle| content.windows(needle.len()).any(|window| window == needle))
    };
    let mut holding: Vec<_> = files(&setup.world.path("")).into_iter().filter(holds_key).collect();
    holding.sort();
    assert_eq!(holding, kept);
    for file in kept {
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
    }
}

/// The 32 bytes of the private key in a file, whatever stands around it.
fn key_in(file: &Path) -> Vec<u8> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text.lines().find(|line| line.contains("private_key:")).unwrap_or(&text);
    STANDARD.decode(line.trim().trim_start_matches("private_key:").trim().trim_matches(['\'', '"'])).unwrap()
}

/// The key as it could be written by mistake; text without padding is part of the padded one.
fn forms(key: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let standard = STANDARD.encode(key).trim_end_matches('=').to_owned();
    vec![key.to_vec(), standard.into_bytes(), URL_SAFE_NO_PAD.encode(key).into_bytes(), hex.into_bytes()]
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}
