//! A tunnel for other WireGuard programs: as files, or as a QR code.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use sinfonia_tier3::Config;
use zeroize::Zeroizing;

use super::args::QrStyle;

/// Writes `wg.conf` (wg-quick(8), only for its owner) and `resolv.conf`.
pub(crate) fn write_files(directory: &Path, config: &Config) -> io::Result<()> {
    write(directory, "wg.conf", 0o600, config.to_wg_quick(&[]).as_bytes())?;
    write(directory, "resolv.conf", 0o644, config.resolv_conf().as_bytes())
}

fn write(directory: &Path, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let place = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let mut file = tempfile::Builder::new()
        .prefix(".sinfonia-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(place)?;
    file.write_all(content).map_err(place)?;
    file.persist(directory.join(name)).map_err(|error| place(error.error))?;
    Ok(())
}

/// The tunnel as WireGuard for Android scans it; with packages, only theirs go through it.
pub(crate) fn qr_code(config: &Config, packages: &[String], style: QrStyle) -> Result<Zeroizing<String>, String> {
    let text = android(config, packages);
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L)
        .map_err(|error| format!("the configuration does not fit into a QR code: {error}"))?;
    // A scanner wants dark on light: on a dark terminal that takes drawing the light parts.
    let picture = match style {
        QrStyle::Compact => code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build(),
        QrStyle::Alt => code.render::<char>().dark_color('#').light_color(' ').module_dimensions(2, 1).build(),
    };
    Ok(Zeroizing::new(picture))
}

fn android(config: &Config, packages: &[String]) -> Zeroizing<String> {
    if packages.is_empty() {
        return config.to_wg_quick(&[]);
    }
    config.to_wg_quick(&[("IncludedApplications", &packages.join(", "))])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn config() -> Config {
        let tunnel = serde_json::json!({
            "publicKey": "Sx7g5QA5PN4T+CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE=",
            "allowedIPs": ["0.0.0.0/0"],
            "endpoint": "198.51.100.2:51820",
            "address": ["10.5.8.210"],
            "dns": ["10.96.0.10", "vertical-module.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        });
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        Config::new(serde_json::from_value(tunnel).unwrap(), key).unwrap()
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wg.conf"), "an older one").unwrap();
        write_files(folder.path(), &config()).unwrap();
        let mode = |name| folder.path().join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!(mode("wg.conf"), 0o600);
        let written = std::fs::read_to_string(folder.path().join("wg.conf")).unwrap();
        assert_eq!(written, *config().to_wg_quick(&[]));
        let resolv = std::fs::read_to_string(folder.path().join("resolv.conf")).unwrap();
        assert_eq!(
            resolv,
            "nameserver 10.96.0.10\n\
             search vertical-module.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5\n"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let error = write_files(Path::new("/proc/sinfonia"), &config()).unwrap_err();
        assert!(error.to_string().contains("wg.conf"), "{error}");
    }

    #[test]
    fn the_android_text_names_the_packages_in_the_interface_section() {
        let text = android(&config(), &["edu.cmu.cs.openrtist".into(), "org.example".into()]);
        let interface = text.split("[Peer]").next().unwrap();
        assert!(interface.contains("\nIncludedApplications = edu.cmu.cs.openrtist, org.example\n"), "{interface}");
        assert!(!android(&config(), &[]).contains("IncludedApplications"));
    }

    #[test]
    fn both_styles_draw_the_same_modules() {
        let compact = qr_code(&config(), &[], QrStyle::Compact).unwrap();
        let alt = qr_code(&config(), &[], QrStyle::Alt).unwrap();
        let width = compact.lines().next().unwrap().chars().count();
        assert_eq!(alt.lines().count(), width, "square, one line per module");
        assert_eq!(compact.lines().count(), width.div_ceil(2), "two modules per character");
        for (row, line) in alt.lines().enumerate() {
            let drawn: Vec<char> = compact.lines().nth(row / 2).unwrap().chars().collect();
            for (column, character) in line.chars().step_by(2).enumerate() {
                let halves = if row % 2 == 0 { ['\u{2580}', '\u{2588}'] } else { ['\u{2584}', '\u{2588}'] };
                let light = halves.contains(&drawn[column]);
                assert_eq!(character == ' ', light, "row {row}, column {column}");
            }
        }
    }
}
