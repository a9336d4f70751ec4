//! An image as `make images` leaves it: an OCI archive, unpacked.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sinfonia_tests::cluster::output_of;

/// What the images are of.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An image, with its files in a directory.
pub(crate) struct Image {
    pub(crate) config: Value,
    directory: tempfile::TempDir,
}

/// One file or directory of an image.
pub(crate) struct Entry {
    /// Its path in the image.
    pub(crate) path: PathBuf,
    /// Where the test finds it.
    pub(crate) file: PathBuf,
    pub(crate) metadata: fs::Metadata,
}

/// The archive of an image by its name, or what lies beside it.
pub(crate) fn path(name: &str, ending: &str) -> PathBuf {
    let given = std::env::var_os("SINFONIA_IMAGES").map(PathBuf::from);
    let directory = given.unwrap_or_else(|| project().join("target/images"));
    let path = directory.join(format!("{name}-{VERSION}.{ending}"));
    assert!(path.exists(), "{} is missing: make images", path.display());
    path
}

pub(crate) fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

impl Image {
    pub(crate) fn unpack(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["archive", "root"] {
            fs::create_dir(at(name)).unwrap();
        }
        let archive = format!("sinfonia-{name}");
        extract(&path(&archive, "tar"), &at("archive"));
        let index = read(&at("archive/index.json"));
        let blob = |digest: &Value| at("archive/blobs").join(digest.as_str().unwrap().replace(':', "/"));
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 1);
        let written = fs::read_to_string(path(&archive, "digest")).unwrap();
        assert_eq!(manifests[0]["digest"], written.trim());
        let manifest = read(&blob(&manifests[0]["digest"]));
        for layer in manifest["layers"].as_array().unwrap() {
            extract(&blob(&layer["digest"]), &at("root"));
        }
        let config = read(&blob(&manifest["config"]["digest"]));
        Self { config, directory }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A setting, such as `User`.
    pub(crate) fn setting(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }

    pub(crate) fn label(&self, name: &str) -> &str {
        self.setting("Labels")[format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default()
    }

    /// Everything in it.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let root = self.root();
        let mut found = Vec::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let file = entry.unwrap().path();
                let metadata = file.symlink_metadata().unwrap();
                if metadata.is_dir() {
                    directories.push(file.clone());
                }
                let path = Path::new("/").join(file.strip_prefix(&root).unwrap());
                found.push(Entry { path, file, metadata });
            }
        }
        found
    }

    /// What a program in it prints, with nothing around it but the image, and no rights.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        output_of(
            Command::new("/usr/sbin/chroot").arg("--userspec=65532:65532").arg(self.root()).args(words).env_clear(),
        )
    }
}

impl Entry {
    pub(crate) fn is_program(&self) -> bool {
        self.metadata.is_file() && fs::read(&self.file).unwrap().starts_with(b"\x7fELF")
    }

    pub(crate) fn is_device(&self) -> bool {
        let kind = self.metadata.file_type();
        kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
    }

    /// The permission bits.
    pub(crate) fn mode(&self) -> u32 {
        self.metadata.mode() & 0o7777
    }
}

fn extract(archive: &Path, directory: &Path) {
    let mut command = Command::new("tar");
    output_of(command.args(["--preserve-permissions", "-xf"]).arg(archive).arg("-C").arg(directory));
}

pub(crate) fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}
