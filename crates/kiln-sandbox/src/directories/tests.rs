use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn builds(parent: &tempfile::TempDir) -> BuildDirectories {
    BuildDirectories::new(parent.path().to_owned())
}

fn chroots(store: &tempfile::TempDir) -> ChrootDirectories {
    let store = Directory::open(store.path()).unwrap();
    let trash = Arc::new(Trash::new(store.try_clone().unwrap()));
    ChrootDirectories::new(store, trash)
}

#[test]
fn x3_what_was_made_before_it_was_needed_is_like_the_rest() {
    let parent = tempfile::tempdir().unwrap();
    let (chroots, builds) = (chroots(&parent), builds(&parent));
    let make = || {
        let chroot = chroots.create(b"x.chroot", &Credentials::Caller).unwrap();
        (chroot, builds.create(b"x", &Credentials::Caller).unwrap())
    };
    let tree = |(chroot, build): &(ChrootDirectory, BuildDirectory)| {
        let all = [chroot.path(), chroot.store(), chroot.temporary_directory(), build.outer(), build.path()];
        let inside = all.each_ref().map(|path| fs::read_dir(path).unwrap().count());
        (all.each_ref().map(mode), inside, all)
    };
    let identity = |path: &Path| fs::metadata(path).unwrap().ino();
    let first = make();
    let before = tree(&first);
    drop(first);
    for _ in 0..2 {
        chroots.make_spare().unwrap();
        builds.make_spare().unwrap();
    }
    let spares: Vec<u64> =
        names(&parent).iter().flat_map(|bin| names_in(bin)).map(|path| identity(&path)).collect();
    assert_eq!(spares.len(), 2, "one of each kind");
    let second = make();
    assert_eq!(tree(&second), before);
    assert!(spares.contains(&identity(&second.0.path())) && spares.contains(&identity(&second.1.outer())));
    // It is as much in use as any other.
    assert_eq!(BuildDirectories::new(parent.path().to_owned()).remove_leftovers().unwrap(), 0);
    assert!(second.1.path().exists());
    drop(second);
    chroots.make_spare().unwrap();
    builds.make_spare().unwrap();
    chroots.empty_trash().unwrap();
    builds.empty_trash().unwrap();
    assert_eq!(names(&parent), [""; 0].map(PathBuf::from));
    // What was ready has gone, with a name of its own or without: nobody notices.
    chroots.make_spare().unwrap();
    names(&parent).iter().for_each(|bin| fs::remove_dir_all(bin).unwrap());
    assert_eq!(tree(&make()), before);
}

fn names(parent: &tempfile::TempDir) -> Vec<PathBuf> {
    names_in(parent.path())
}

fn names_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn x3_the_chroot_directory_is_the_engines_and_open_inside() {
    let store = tempfile::tempdir().unwrap();
    let chroot = chroots(&store).create(b"x.drv.chroot", &Credentials::Caller).unwrap();
    assert_eq!(chroot.path(), store.path().join("x.drv.chroot"));
    assert_eq!(mode(chroot.path()), 0o700);
    assert_eq!(mode(chroot.store()), 0o1775);
    assert_eq!(mode(chroot.temporary_directory()), 0o1777);
    drop(chroot);
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0);
}

#[test]
fn x3_leftovers_go_first_and_links_are_not_followed() {
    let store = tempfile::tempdir().unwrap();
    let outside = store.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    symlink(&outside, store.path().join("x.chroot")).unwrap();
    let chroot = chroots(&store).create(b"x.chroot", &Credentials::Caller).unwrap();
    fs::write(chroot.store().join("output"), "").unwrap();
    // As after a crash.
    std::mem::forget(chroot);
    let chroot = chroots(&store).create(b"x.chroot", &Credentials::Caller).unwrap();
    assert_eq!(fs::read_dir(chroot.store()).unwrap().count(), 0);
    assert!(outside.join("file").exists());
    drop(chroot);
    assert!(!store.path().join("x.chroot").exists());
}

#[test]
fn b6_build_directories_are_numbered_and_the_builders_part_is_inside() {
    let parent = tempfile::tempdir().unwrap();
    let first = builds(&parent).create(b"foo.drv", &Credentials::Caller).unwrap();
    let second = builds(&parent).create(b"foo.drv", &Credentials::Caller).unwrap();
    assert_eq!(first.path(), parent.path().join("nix-build-foo.drv-0/build"));
    assert_eq!(second.path(), parent.path().join("nix-build-foo.drv-1/build"));
    assert_eq!((mode(first.outer()), mode(first.path())), (0o1700, 0o700));
    drop(first);
    let again = builds(&parent).create(b"foo.drv", &Credentials::Caller).unwrap();
    assert_eq!(again.outer(), parent.path().join("nix-build-foo.drv-0"));
}

#[test]
fn b6_the_builders_part_belongs_to_the_build_user() {
    if !geteuid().is_root() {
        eprintln!("NOT TESTED, because only root can do it: giving a directory to a build user");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let user = Credentials::BuildUser { uid: 31_001, gid: 31_000, supplementary_groups: vec![] };
    let directory = builds(&parent).create(b"foo.drv", &user).unwrap();
    let (outer, inner) = (fs::metadata(directory.outer()).unwrap(), fs::metadata(directory.path()).unwrap());
    assert_eq!((outer.uid(), inner.uid(), inner.gid()), (0, 31_001, 31_000));
    let chroot = chroots(&parent).create(b"foo.drv.chroot", &user).unwrap();
    let store = fs::metadata(chroot.store()).unwrap();
    assert_eq!((store.uid(), store.gid()), (0, 31_000));
}

#[test]
fn d19_a_kept_directory_can_be_read_and_survives() {
    let parent = tempfile::tempdir().unwrap();
    let directory = builds(&parent).create(b"foo.drv", &Credentials::Caller).unwrap();
    fs::write(directory.path().join("evidence"), "").unwrap();
    let kept = directory.keep().unwrap();
    assert_eq!(mode(&kept), 0o755);
    assert!(kept.join("evidence").exists());
    assert_eq!(builds(&parent).remove_leftovers().unwrap(), 0);
    assert!(kept.exists());
}

#[test]
fn leftovers_of_dead_engines_are_removed_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    let alive = builds(&parent).create(b"alive", &Credentials::Caller).unwrap();
    // As a crash leaves it: the directory without anyone who holds the lock.
    let dead = parent.path().join("nix-build-dead-0");
    fs::create_dir_all(dead.join("build/deep/tree")).unwrap();
    fs::set_permissions(&dead, fs::Permissions::from_mode(KILNS)).unwrap();
    // As real Nix makes them.
    fs::create_dir_all(parent.path().join("nix-build-other-0/build")).unwrap();
    assert_eq!(builds(&parent).remove_leftovers().unwrap(), 1);
    assert!(!dead.exists() && alive.path().exists());
    assert!(parent.path().join("nix-build-other-0").exists());
    assert_eq!(BuildDirectories::new(parent.path().join("missing")).remove_leftovers().unwrap(), 0);
}

#[test]
fn a_directory_that_others_can_replace_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let open = parent.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    for build_dir in [open.clone(), open.join("builds")] {
        let error = BuildDirectories::new(build_dir).create(b"x", &Credentials::Caller).unwrap_err();
        assert!(
            matches!(&error, SandboxError::UnsafeDirectory(path) if *path == open.canonicalize().unwrap())
        );
    }
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    BuildDirectories::new(open).create(b"x", &Credentials::Caller).unwrap();
}

#[test]
fn names_that_are_paths_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    for name in [&b"../x"[..], b"", b".", b"a/b", b"a\0"] {
        assert!(chroots(&parent).create(name, &Credentials::Caller).is_err());
    }
    assert!(builds(&parent).create(b"a/b", &Credentials::Caller).is_err());
}

#[test]
fn what_is_small_is_discarded_by_way_of_the_trash() {
    let parent = tempfile::tempdir().unwrap();
    let trash = Trash::new(Directory::open(parent.path()).unwrap());
    let chroot = chroots(&parent).create(b"x.chroot", &Credentials::Caller).unwrap();
    fs::write(chroot.temporary_directory().join("file"), "small").unwrap();
    chroot.discard(&trash).unwrap();
    let large = chroots(&parent).create(b"large.chroot", &Credentials::Caller).unwrap();
    fs::write(large.temporary_directory().join("file"), vec![0; 1 << 20]).unwrap();
    large.discard(&trash).unwrap();
    assert_eq!(trash.count(), 1, "the large one is gone already");
    trash.empty().unwrap();
    let builds = builds(&parent);
    builds.create(b"x", &Credentials::Caller).unwrap().discard().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    builds.empty_trash().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_place_for_build_directories_that_was_deleted_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let builds = BuildDirectories::new(parent.path().join("builds"));
    drop(builds.create(b"x", &Credentials::Caller).unwrap());
    fs::remove_dir(builds.path()).unwrap();
    let again = builds.create(b"x", &Credentials::Caller).unwrap();
    assert!(again.path().exists());
}

/// Engines that start look for leftovers while others make directories.
#[test]
fn what_is_being_made_is_lost_to_nobody() {
    let parent = tempfile::tempdir().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (builds, is_over) = (builds(&parent), &is_over);
        let others = BuildDirectories::new(parent.path().to_owned());
        scope.spawn(move || {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                others.remove_leftovers().unwrap();
            }
        });
        let made: Result<Vec<_>, _> =
            (0..2000).map(|_| builds.create(b"x", &Credentials::Caller).map(drop)).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        made.unwrap();
    });
}
