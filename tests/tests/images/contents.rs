//! Nothing is in an image but what it needs, and it says what that is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sinfonia_tests::cluster::output_of;

use crate::archive::{Entry, Image, VERSION, path, project, read};

/// Name, the most it may be in MB as tests build it, which is up to a fifth more than what is released, its user, and
/// some of what it is made of.
const IMAGES: [(&str, u64, &str, &[&str]); 5] = [
    ("tier1", 30, "65532:65532", &["actix-web", "sqlx", "rust-std", "glibc"]),
    ("tier2", 94, "65532:65532", &["kube", "glibc", "helm.sh/helm/v3", "go-std", "ca-certificates", "tzdata"]),
    ("gateway", 25, "", &["boringtun", "rust-std", "glibc"]),
    ("tier3", 25, "", &["awc", "ureq", "rust-std", "glibc"]),
    ("helloworld", 25, "65532:65532", &["nginx", "nginx-common", "libc6", "libssl3"]),
];

/// What could run a script, or be one.
const SHELLS: [&str; 10] = ["sh", "bash", "dash", "ash", "zsh", "busybox", "perl", "python3", "env", "nsenter"];

#[test]
fn each_is_small_and_says_what_it_is() {
    for (name, limit, user, _) in IMAGES {
        let image = Image::unpack(name);
        let size: u64 =
            image.entries().iter().filter(|entry| entry.metadata.is_file()).map(|entry| entry.metadata.len()).sum();
        assert!(size < limit * 1_000_000, "{name} has {size} bytes");
        assert_eq!(image.setting("User").as_str().unwrap_or_default(), user, "{name}");
        assert_eq!((image.label("title"), image.label("version")), (&*format!("sinfonia-{name}"), VERSION));
        let revision = image.label("revision");
        assert!(
            revision.len() >= 40 && revision[..40].bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}: {revision}"
        );
        for label in ["source", "created", "description"] {
            assert!(!image.label(label).is_empty(), "{name} has no {label}");
        }
        assert!(image.label("licenses").contains("MIT"), "{name}");
        let entrypoint = image.setting("Entrypoint")[0].as_str().unwrap();
        assert!(image.root().join(entrypoint.trim_start_matches('/')).is_file(), "{name}: {entrypoint}");
    }
}

#[test]
fn there_is_no_shell_and_nothing_to_be_changed() {
    for (name, ..) in IMAGES {
        for entry in Image::unpack(name).entries() {
            let at = format!("{} in {name}", entry.path.display());
            let file_name = entry.path.file_name().unwrap().to_str().unwrap();
            assert!(!SHELLS.contains(&file_name), "{at}");
            assert!(!entry.is_device(), "{at}");
            assert_eq!((entry.metadata.uid(), entry.metadata.gid()), (0, 0), "{at}");
            if entry.metadata.is_symlink() {
                continue;
            }
            if entry.path == Path::new("/tmp") {
                assert_eq!(entry.mode(), 0o1777, "{at}");
            } else {
                assert_eq!(entry.mode() & 0o7022, 0, "{at} has mode {:o}", entry.mode());
            }
            if entry.metadata.is_file() && entry.mode() & 0o111 != 0 {
                assert!(entry.is_program(), "{at} is a script");
            }
        }
    }
}

#[test]
fn programs_are_static() {
    let dynamic = |entry: &Entry| {
        let headers = output_of(Command::new("readelf").args(["--wide", "--segments", "--dynamic"]).arg(&entry.file));
        headers.contains("INTERP") || headers.contains("(NEEDED)")
    };
    for (name, ..) in IMAGES {
        let image = Image::unpack(name);
        let programs: Vec<Entry> = image.entries().into_iter().filter(Entry::is_program).collect();
        assert!(!programs.is_empty(), "{name}");
        for program in programs.iter().filter(|_| name != "helloworld") {
            assert!(!dynamic(program), "{} in {name}", program.path.display());
        }
    }
}

#[test]
fn programs_run_on_what_is_there() {
    for (name, program) in [("tier1", "sinfonia-tier1"), ("tier2", "sinfonia-tier2"), ("tier3", "sinfonia-tier3")] {
        let output = Image::unpack(name).run(&[&format!("/usr/local/bin/{program}"), "--version"]);
        assert_eq!(output.trim(), format!("{program} {VERSION}"));
    }
    let output = Image::unpack("gateway").run(&["/usr/local/bin/sinfonia-gateway", "--version"]);
    assert_eq!(output.trim(), format!("sinfonia-gateway {VERSION}"));
    assert!(Image::unpack("tier2").run(&["/usr/local/bin/helm", "version", "--short"]).starts_with("v3."));
    // It asks the loader for all of its libraries.
    Image::unpack("helloworld").run(&["/usr/sbin/nginx", "-e", "stderr", "-t"]);
}

#[test]
fn helm_finds_authorities_and_time_zones() {
    let image = Image::unpack("tier2");
    let certificates = fs::read_to_string(image.root().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(certificates.matches("BEGIN CERTIFICATE").count() > 100);
    assert!(image.root().join("usr/share/zoneinfo/Europe/Berlin").is_file());
}

#[test]
fn the_bill_of_materials_is_complete() {
    for (name, _, _, expected) in IMAGES {
        let image = Image::unpack(name);
        let documents = image.root().join("usr/share/doc/sinfonia");
        let bill = read(&documents.join("sbom.spdx.json"));
        assert_eq!(bill, read(&path(&format!("sinfonia-{name}"), "spdx.json")), "{name}");
        assert_eq!(bill["spdxVersion"], "SPDX-2.3");
        let packages = bill["packages"].as_array().unwrap();
        let all =
            |field: &str| packages.iter().map(|package| package[field].as_str().unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(all("SPDXID").len(), packages.len(), "{name}: two of the same");
        let names = all("name");
        for part in expected {
            assert!(names.contains(part), "{name} without {part}");
        }
        let related: Vec<&Value> = bill["relationships"].as_array().unwrap().iter().collect();
        assert_eq!(related.len(), packages.len(), "{name}: each is described or contained");
        let licenses = fs::read_to_string(documents.join("LICENSES")).unwrap();
        for package in packages.iter().filter(|package| package["SPDXID"] != "SPDXRef-image") {
            let line =
                format!("\n{} {}: ", package["name"].as_str().unwrap(), package["versionInfo"].as_str().unwrap());
            assert!(licenses.contains(&line), "{name}: no licence of{line}");
        }
        assert!(licenses.contains("WITHOUT WARRANTY OF ANY KIND"), "{name} has no licence's text");
    }
}

#[test]
fn nothing_says_where_it_was_made() {
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo")).unwrap();
    let places = [project().to_str().unwrap().to_owned(), home];
    for (name, ..) in IMAGES {
        for entry in Image::unpack(name).entries().iter().filter(|entry| entry.metadata.is_file()) {
            let bytes = fs::read(&entry.file).unwrap();
            for place in &places {
                let found = bytes.windows(place.len()).any(|window| window == place.as_bytes());
                assert!(!found, "{} in {name} names {place}", entry.path.display());
            }
        }
    }
}
