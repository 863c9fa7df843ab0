//! A store, a build directory, a launcher; running a plan to its end.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kiln_sandbox::*;

/// Long enough for a loaded machine, short enough to notice.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The launcher that the tests share.
pub(crate) fn launcher() -> &'static Launcher {
    static LAUNCHER: LazyLock<Launcher> = LazyLock::new(start_launcher);
    &LAUNCHER
}

/// A launcher for one test.
pub(crate) fn start_launcher() -> Launcher {
    Launcher::start_program(Path::new(env!("CARGO_BIN_EXE_kiln-launcher"))).unwrap()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// For what only root can do: says loudly that it was left out.
pub(crate) fn needs_root(what: &str) -> bool {
    if !is_root() {
        eprintln!("NOT TESTED, because only root can do it: {what}");
    }
    is_root()
}

/// The builder, compiled once per test process.
pub(crate) fn builder_program() -> &'static [u8] {
    static COMPILED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("builder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/builder.c");
        let status = Command::new("cc").args(["-O1", "-static", "-o"]).args([&program, &source]).status();
        assert!(status.expect("the tests need a C compiler").success());
        fs::read(program).unwrap()
    });
    &COMPILED
}

/// Directories for one build.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let (uid, gid) = if is_root() {
            // No two builds at a time may have the same, and no user of the machine.
            (100_000 + (std::process::id() % 10_000) * 100 + NEXT.fetch_add(1, Ordering::Relaxed), 99_000)
        } else {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        };
        let world = Self { directory, uid, gid };
        let store = world.path("store");
        fs::create_dir(&store).unwrap();
        fs::write(store.join("builder"), builder_program()).unwrap();
        fs::set_permissions(store.join("builder"), Permissions::from_mode(0o555)).unwrap();
        fs::create_dir_all(store.join("input-directory/sub")).unwrap();
        fs::write(store.join("input-directory/hello"), "hello\n").unwrap();
        fs::write(store.join("input-file"), "file\n").unwrap();
        // Permissions alone must not be what protects them.
        for path in ["input-directory", "input-directory/sub"] {
            fs::set_permissions(store.join(path), Permissions::from_mode(0o777)).unwrap();
        }
        for path in ["input-directory/hello", "input-file"] {
            fs::set_permissions(store.join(path), Permissions::from_mode(0o666)).unwrap();
        }
        symlink("input-file", store.join("input-link")).unwrap();
        fs::write(store.join("undeclared"), "secret\n").unwrap();
        world.make_directory("x.drv.chroot/store", 0o1775, Some(0));
        world.make_directory("x.drv.chroot/tmp", 0o1777, None);
        world.make_directory("builds/x/build", 0o700, Some(world.uid));
        world
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn make_directory(&self, relative: &str, mode: u32, owner: Option<u32>) {
        let path = self.path(relative);
        fs::create_dir_all(&path).unwrap();
        if is_root() {
            chown(&path, owner, Some(self.gid)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// The plan of a sandboxed build whose builder does what `words` say.
    pub(crate) fn plan(&self, words: &[&str]) -> LaunchPlan {
        let input = |name: &str| Input { name: name.into(), source: self.path("store").join(name).into() };
        LaunchPlan {
            builder: "/nix/store/builder".into(),
            builtin: None,
            arguments: words.iter().map(|word| (*word).into()).collect(),
            environment: vec![("B".into(), "2".into()), ("A".into(), "1".into())],
            build_directory: BuildDirectoryPlan {
                source: self.path("builds/x/build").into(),
                target: "/build".into(),
            },
            files: vec![],
            credentials: self.credentials(),
            personality: PersonalityPlan::default(),
            system_calls: SystemCallFilter::Strict,
            open_files: None,
            cgroup: None,
            confinement: Confinement::Sandbox(Box::new(Sandbox {
                store: StoreView {
                    target: "/nix/store".into(),
                    source: self.path("x.drv.chroot/store").into(),
                    inputs: ["builder", "input-directory", "input-file", "input-link"].map(input).to_vec(),
                },
                temporary_directory: self.path("x.drv.chroot/tmp").into(),
                network: Network::Private,
                id_count: 1,
                network_helper: None,
                kvm: false,
                shared_memory_size: "50%".into(),
                paths: vec![],
                mask_proc: true,
            })),
        }
    }

    /// The plan of a build without a sandbox.
    pub(crate) fn unsandboxed(&self, words: &[&str]) -> LaunchPlan {
        // The builder must be reachable for the build user.
        for directory in ["", "store", "builds", "builds/x"] {
            fs::set_permissions(self.path(directory), Permissions::from_mode(0o755)).unwrap();
        }
        let mut plan = self.plan(words);
        plan.builder = self.path("store/builder").into();
        plan.build_directory.target = plan.build_directory.source.clone();
        plan.confinement = Confinement::None;
        plan
    }

    pub(crate) fn credentials(&self) -> Credentials {
        if is_root() {
            Credentials::BuildUser { uid: self.uid, gid: self.gid, supplementary_groups: vec![] }
        } else {
            Credentials::Caller
        }
    }
}

pub(crate) fn sandbox_of(plan: &mut LaunchPlan) -> &mut Sandbox {
    match &mut plan.confinement {
        Confinement::Sandbox(sandbox) => sandbox,
        Confinement::None => panic!("the plan has no sandbox"),
    }
}

/// What came of a build.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) created: bool,
    pub(crate) started: Option<Isolation>,
    pub(crate) failed: Option<SetupError>,
    pub(crate) exit: Option<BuilderExit>,
    pub(crate) log: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn assert_success(&self) -> &Self {
        assert_eq!(self.status(), ExitStatus::Code(0), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn status(&self) -> ExitStatus {
        assert!(self.failed.is_none(), "{self:#?}");
        self.exit.as_ref().unwrap().status
    }

    #[track_caller]
    pub(crate) fn assert_line(&self, line: &str) -> &Self {
        assert!(self.log.lines().any(|found| found == line), "no line {line:?} in:\n{}", self.log);
        self
    }
}

/// Runs a plan to its end.
#[track_caller]
pub(crate) fn run(plan: &LaunchPlan) -> Outcome {
    finish(launcher().launch(plan).unwrap())
}

/// Runs a sandboxed build with these words.
#[track_caller]
pub(crate) fn run_words(words: &[&str]) -> Outcome {
    let world = World::new();
    run(&world.plan(words))
}

/// Collects messages and log until the end.
#[track_caller]
pub(crate) fn finish(builder: RunningBuilder) -> Outcome {
    let mut outcome = Outcome { created: false, started: None, failed: None, exit: None, log: String::new() };
    let mut log = Log::new(&builder);
    let deadline = Instant::now() + PATIENCE;
    loop {
        log.read_available();
        match builder.status.receive().unwrap() {
            Receipt::Message(StatusMessage::Created { .. }) => outcome.created = true,
            Receipt::Message(StatusMessage::Started { isolation, .. }) => outcome.started = Some(isolation),
            Receipt::Message(StatusMessage::SetupFailed(error)) => outcome.failed = Some(error),
            Receipt::Message(StatusMessage::Exited(exit)) => outcome.exit = Some(exit),
            Receipt::Closed => break,
            Receipt::Nothing => {
                assert!(Instant::now() < deadline, "the build does not end: {outcome:?} {}", log.text());
                builder.status.wait(Some(Duration::from_millis(10))).unwrap();
            }
        }
    }
    log.read_available();
    outcome.log = log.text();
    outcome
}

/// The log of a running builder.
pub(crate) struct Log {
    file: File,
    bytes: Vec<u8>,
}

impl Log {
    pub(crate) fn new(builder: &RunningBuilder) -> Self {
        Self { file: File::from(builder.log.try_clone().unwrap()), bytes: Vec::new() }
    }

    pub(crate) fn read_available(&mut self) {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = self.file.read(&mut buffer) {
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, line: &str) {
        wait_until(line, || {
            self.read_available();
            self.text().lines().any(|found| found == line)
        });
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Does a process hold a lock on this file? So test builders show that they live.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    // Asking in a way that sees POSIX locks of other processes.
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
}
