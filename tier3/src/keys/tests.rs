use std::os::unix::fs::symlink;

use super::*;

const APPLICATION: ApplicationId = ApplicationId::HELLOWORLD;

struct Fixture {
    folder: tempfile::TempDir,
    cache: KeyCache,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = KeyCache::at(folder.path().join("sinfonia"));
        Self { folder, cache }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sinfonia").join(APPLICATION.to_string())
    }

    fn with_file(text: &str, mode: u32) -> Self {
        let fixture = Self::new();
        make_directory(fixture.path().parent().unwrap()).unwrap();
        std::fs::write(fixture.path(), text).unwrap();
        std::fs::set_permissions(fixture.path(), Permissions::from_mode(mode)).unwrap();
        fixture
    }

    fn mode(&self, path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    /// The next run gets a kept key, in a proper file, and the run after it the same one.
    fn assert_replaced(&self, old: PublicKey) {
        let first = self.cache.claim(APPLICATION);
        assert!(first.is_kept());
        assert_ne!(first.public_key(), old);
        assert_eq!(self.mode(&self.path()), 0o600);
        let public_key = first.public_key();
        drop(first);
        assert_eq!(self.cache.claim(APPLICATION).public_key(), public_key);
    }
}

/// Written by version 0.7.4 of the reference client.
const REFERENCE: &str = "private_key: dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n\
                         public_key: hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n";

fn reference_key() -> PublicKey {
    "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".parse().unwrap()
}

#[test]
fn a_key_is_made_once_and_kept_private() {
    let fixture = Fixture::new();
    let first = fixture.cache.claim(APPLICATION);
    assert!(first.is_kept());
    assert_eq!(fixture.mode(&fixture.path()), 0o600);
    assert_eq!(fixture.mode(fixture.path().parent().unwrap()), 0o700);
    let files = std::fs::read_dir(fixture.path().parent().unwrap()).unwrap().count();
    assert_eq!(files, 1, "no other file is left beside the key");
    let public_key = first.public_key();
    drop(first);
    assert_eq!(fixture.cache.claim(APPLICATION).public_key(), public_key);
}

#[test]
fn the_reference_clients_file_is_used_and_ours_has_its_format() {
    let fixture = Fixture::with_file(REFERENCE, 0o600);
    assert_eq!(fixture.cache.claim(APPLICATION).public_key(), reference_key());
    assert_eq!(std::fs::read_to_string(fixture.path()).unwrap(), REFERENCE);

    let fixture = Fixture::new();
    let claimed = fixture.cache.claim(APPLICATION);
    let expected =
        format!("private_key: {}\npublic_key: {}\n", *claimed.private_key().to_base64(), claimed.public_key());
    assert_eq!(std::fs::read_to_string(fixture.path()).unwrap(), expected);
}

#[test]
fn a_second_run_at_the_same_time_has_a_key_of_its_own() {
    let fixture = Fixture::with_file(REFERENCE, 0o600);
    let first = fixture.cache.claim(APPLICATION);
    let second = fixture.cache.claim(APPLICATION);
    let third = fixture.cache.claim(APPLICATION);
    assert!(first.is_kept() && !second.is_kept() && !third.is_kept());
    assert_ne!(second.public_key(), first.public_key());
    assert_ne!(second.public_key(), third.public_key());
    drop(first);
    assert_eq!(fixture.cache.claim(APPLICATION).public_key(), reference_key());
}

#[test]
fn of_many_first_runs_at_once_exactly_one_keeps_its_key() {
    let fixture = Fixture::new();
    let claimed: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..16).map(|_| scope.spawn(|| fixture.cache.claim(APPLICATION))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(claimed.iter().filter(|key| key.is_kept()).count(), 1);
    let keys: std::collections::HashSet<_> = claimed.iter().map(ClaimedKey::public_key).collect();
    assert_eq!(keys.len(), claimed.len());
}

#[test]
fn a_broken_file_is_replaced() {
    let other = PrivateKey::generate().public_key();
    let mismatch = format!("private_key: dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\npublic_key: {other}\n");
    let long = format!("{}{REFERENCE}", "# padding\n".repeat(1000));
    for text in ["", "\0\u{1}", "[]", "private_key: abc\npublic_key: abc\n", "public_key: x", &mismatch, &long] {
        Fixture::with_file(text, 0o600).assert_replaced(reference_key());
    }
}

#[test]
fn a_file_that_others_could_read_is_replaced() {
    for mode in [0o644, 0o640, 0o604, 0o620] {
        Fixture::with_file(REFERENCE, mode).assert_replaced(reference_key());
    }
}

#[test]
fn what_is_no_file_is_replaced_if_possible() {
    let fixture = Fixture::new();
    let target = fixture.folder.path().join("elsewhere");
    std::fs::write(&target, REFERENCE).unwrap();
    make_directory(fixture.path().parent().unwrap()).unwrap();
    symlink(&target, fixture.path()).unwrap();
    fixture.assert_replaced(reference_key());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), REFERENCE, "a link's target is left alone");

    let fixture = Fixture::new();
    make_directory(&fixture.path()).unwrap();
    assert!(!fixture.cache.claim(APPLICATION).is_kept());
}

#[test]
fn without_a_place_the_key_serves_one_run() {
    let fixture = Fixture::new();
    std::fs::write(fixture.folder.path().join("sinfonia"), "a file where the folder should be").unwrap();
    assert!(!fixture.cache.claim(APPLICATION).is_kept());
    assert!(!KeyCache { directory: None }.claim(APPLICATION).is_kept());
    assert!(!KeyCache::at("/proc/sinfonia").claim(APPLICATION).is_kept());
}

#[test]
fn a_replacement_that_fails_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let directory = fixture.path().parent().unwrap().to_path_buf();
    make_directory(&directory).unwrap();
    let path = fixture.path();
    std::fs::create_dir_all(path.join("occupied")).unwrap();
    assert!(create(&directory, &path, true).is_err());
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [path.file_name().unwrap()], "the temporary file is gone");
}

#[test]
fn a_wide_open_folder_is_closed() {
    let fixture = Fixture::with_file(REFERENCE, 0o600);
    let directory = fixture.path().parent().unwrap().to_path_buf();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    assert!(fixture.cache.claim(APPLICATION).is_kept());
    assert_eq!(fixture.mode(&directory), 0o700);
}

#[test]
fn nothing_shows_the_private_key() {
    let claimed = Fixture::with_file(REFERENCE, 0o600).cache.claim(APPLICATION);
    assert!(!format!("{claimed:?}").contains("dwdtCnMY"));
    for unusable in [Unusable::Format, Unusable::Mismatch, Unusable::Mode(0o644)] {
        assert!(!unusable.to_string().contains("dwdtCnMY"));
    }
}
