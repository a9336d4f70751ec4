use super::*;

fn record() -> Record {
    Record {
        application: ApplicationId::HELLOWORLD,
        key: PublicKey::from([7; 32]),
        name: "vertical-module".parse().unwrap(),
        addresses: vec!["10.5.0.9".parse().unwrap()],
        created: OffsetDateTime::UNIX_EPOCH,
        lease_end: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(300),
        endpoint: Some("198.51.100.7:51820".parse().unwrap()),
        client: Some("198.51.100.7".parse().unwrap()),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn everything_comes_back_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/state");
    let (cloudlet, key) = {
        let state = StateDirectory::open(&path).unwrap();
        assert_eq!(state.deployments().unwrap(), []);
        state.store().save(vec![record()]).await.unwrap();
        (state.cloudlet().unwrap(), state.private_key().unwrap().public_key())
    };
    let state = StateDirectory::open(&path).unwrap();
    assert_eq!(state.cloudlet().unwrap(), cloudlet);
    assert_eq!(state.private_key().unwrap().public_key(), key);
    assert_eq!(state.deployments().unwrap(), [record()]);
}

#[tokio::test]
async fn only_the_owner_can_read_it() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = StateDirectory::open(root.path()).unwrap();
    state.private_key().unwrap();
    state.store().save(vec![record()]).await.unwrap();
    assert_eq!(mode(root.path()), 0o700);
    for name in [KEY, DEPLOYMENTS, LOCK] {
        assert_eq!(mode(&root.path().join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_directory_with_other_things_in_it_is_not_closed_to_others() {
    let root = tempfile::tempdir().unwrap();
    let open = || StateDirectory::open(root.path()).err();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.path().join("passwd"), "").unwrap();
    let refused = open();
    assert_eq!(refused, Some(StateError::Shared(root.path().to_owned())));
    assert_eq!(mode(root.path()), 0o755);
    assert!(!root.path().join(LOCK).exists());

    fs::remove_file(root.path().join("passwd")).unwrap();
    fs::create_dir(root.path().join("lost+found")).unwrap();
    assert_eq!(open(), None);
}

#[test]
fn a_second_tier2_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let _first = StateDirectory::open(root.path()).unwrap();
    let second = StateDirectory::open(root.path()).err();
    assert_eq!(second, Some(StateError::InUse(root.path().to_owned())));
}

#[test]
fn corrupt_files_are_moved_aside() {
    for (name, content) in [
        (DEPLOYMENTS, &b"{\"version\":1,\"deployments\":[{\"key\":"[..]),
        (DEPLOYMENTS, b"{\"version\":99,\"deployments\":[]}"),
        (KEY, b"not a key"),
        (CLOUDLET, b"\xff\xfe"),
    ] {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(name), content).unwrap();
        let state = StateDirectory::open(root.path()).unwrap();
        assert_eq!(state.deployments().unwrap(), []);
        state.private_key().unwrap();
        state.cloudlet().unwrap();
        let kept = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(".corrupt-"))
            .unwrap();
        assert_eq!(fs::read(kept).unwrap(), content);
    }
}

#[test]
fn a_directory_that_cannot_be_is_refused_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = StateDirectory::open(&file.join("state")).err().unwrap();
    assert!(error.to_string().contains("Not a directory"), "{error}");
    assert!(error.to_string().contains("--state-directory"), "{error}");
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_old_file_and_no_draft() {
    let root = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(root.path()).unwrap();
    state.store().save(vec![record()]).await.unwrap();
    // A directory in the draft's place makes every write fail, for root too.
    let draft = root.path().join(format!(".{DEPLOYMENTS}.new"));
    fs::create_dir(&draft).unwrap();
    let error = state.store().save(vec![]).await.unwrap_err();
    assert!(matches!(error, StateError::Io { .. }), "{error}");
    assert_eq!(state.deployments().unwrap(), [record()]);
    fs::remove_dir(&draft).unwrap();
    state.store().save(vec![]).await.unwrap();
    assert_eq!(state.deployments().unwrap(), []);
}

#[test]
fn no_space_is_told_apart() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    assert_eq!(StateError::new("write", Path::new("x"), &full), StateError::NoSpace("x".into()));
}
