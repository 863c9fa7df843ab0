use super::*;

fn pool() -> (tempfile::TempDir, BuildUsers) {
    let directory = tempfile::tempdir().unwrap();
    let users = BuildUsers::new("no-such-group", &directory.path().join("userpool")).unwrap();
    (directory, users)
}

#[test]
fn b7_a_group_that_does_not_exist_is_named() {
    let (_directory, users) = pool();
    let error = users.try_acquire().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the group 'no-such-group' specified in 'build-users-group' does not exist"
    );
}

#[test]
fn b7_a_group_without_members_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let users = BuildUsers::new("nogroup", directory.path()).unwrap();
    assert_eq!(
        users.try_acquire().unwrap_err().to_string(),
        "the build users group 'nogroup' has no members"
    );
}

#[test]
fn b7_the_message_for_a_full_pool_is_that_of_nix() {
    assert_eq!(
        BuildUserError::AllInUse("nixbld".into()).to_string(),
        "all build users are currently in use; consider creating additional users and adding them to the 'nixbld' group"
    );
}

#[test]
fn b7_a_lock_is_one_holders_within_a_process_too() {
    let (directory, users) = pool();
    let first = lock_in(&users, 30_001).unwrap();
    assert!(first.is_some());
    assert!(lock_in(&users, 30_001).unwrap().is_none());
    assert!(lock_in(&users.clone(), 30_002).unwrap().is_some());
    drop(first);
    assert!(lock_in(&users, 30_001).unwrap().is_some());
    let file = std::fs::metadata(directory.path().join("userpool/30001")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&file) & 0o777, 0o600);
}

#[test]
fn waiting_for_a_group_that_does_not_exist_fails_at_once() {
    let (_directory, users) = pool();
    let error = users.acquire(Duration::from_secs(60)).unwrap_err();
    assert_eq!(error, BuildUserError::NoGroup("no-such-group".into()));
}

fn lock_in(users: &BuildUsers, uid: u32) -> Result<Option<OwnedFd>, BuildUserError> {
    lock_file(&users.pool.join(uid.to_string()))
}
