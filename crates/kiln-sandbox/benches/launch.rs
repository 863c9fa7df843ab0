//! What a trivial build costs: wall time and CPU time per launch, beside the floor of the machine.
//!
//! `cargo bench -p kiln-sandbox --bench launch -- [COUNT] [PART OF A NAME]`. The builder is a static program that does nothing; the floor is
//! `unshare` and `exec` of the same program with the same namespaces and nothing set up. CPU time is that of this process
//! (as the engine), of the launcher with all its builders, and of the whole machine, which includes what the kernel does
//! later, such as taking network namespaces apart; that last figure needs a quiet machine.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_fs::{Directory, Trash};
use kiln_sandbox::*;

fn main() {
    let count = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(500);
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path());
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::copy(&program, store.join("builder")).unwrap();
    let launcher = Launcher::start_program(Path::new(env!("CARGO_BIN_EXE_kiln-launcher"))).unwrap();
    let wanted = std::env::args().skip(1).find(|word| word.parse::<u32>().is_err() && !word.starts_with('-'));
    let beside = Directory::open(&store).unwrap();
    let trash = Arc::new(Trash::new(beside.try_clone().unwrap()));
    let chroots = ChrootDirectories::new(beside, trash);
    let builds = BuildDirectories::new(directory.path().join("builds"));
    let bench = Bench { launcher, store, chroots, builds, wanted };
    for _ in 0..20 {
        bench.build(Network::Private, 0);
    }
    bench.measure("sandboxed, private network", count, || bench.build(Network::Private, 0));
    bench.measure("sandboxed, host's network", count, || bench.build(Network::Host, 0));
    bench.measure("sandboxed, 100 inputs", count / 5, || bench.build(Network::Private, 100));
    bench.measure("unsandboxed", count, || bench.build_without());
    floor(&program, &bench, count);
}

fn compile(directory: &Path) -> PathBuf {
    let source = directory.join("true.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let program = directory.join("true");
    assert!(
        Command::new("cc")
            .args(["-O2", "-static", "-o"])
            .args([&program, &source])
            .status()
            .unwrap()
            .success()
    );
    program
}

struct Bench {
    launcher: Launcher,
    store: PathBuf,
    chroots: ChrootDirectories,
    builds: BuildDirectories,
    /// What the name of a measurement must contain.
    wanted: Option<String>,
}

impl Bench {
    fn credentials() -> Credentials {
        if rustix::process::geteuid().is_root() {
            Credentials::BuildUser { uid: 77_777, gid: 77_777, supplementary_groups: vec![] }
        } else {
            Credentials::Caller
        }
    }

    fn plan(&self, build: &BuildDirectory, confinement: Confinement, builder: ByteString) -> LaunchPlan {
        let sandboxed = matches!(confinement, Confinement::Sandbox(_));
        LaunchPlan {
            builder,
            builtin: None,
            arguments: vec![],
            environment: (0..25).map(|number| (format!("V{number}").into(), "value".into())).collect(),
            build_directory: BuildDirectoryPlan {
                source: build.path().into(),
                target: if sandboxed { "/build".into() } else { build.path().into() },
            },
            files: vec![],
            credentials: Self::credentials(),
            personality: PersonalityPlan::default(),
            system_calls: SystemCallFilter::Strict,
            open_files: None,
            cgroup: None,
            confinement,
        }
    }

    fn build(&self, network: Network, more_inputs: u32) {
        let credentials = Self::credentials();
        let chroot = self.chroots.create(b"x.drv.chroot", &credentials).unwrap();
        let build = self.builds.create(b"x.drv", &credentials).unwrap();
        let input = |name: String| Input { name: name.into(), source: self.store.join("builder").into() };
        let inputs = (0..more_inputs).map(|number| format!("i{number}")).chain(["builder".into()]).map(input);
        let confinement = Confinement::Sandbox(Box::new(Sandbox {
            store: StoreView {
                target: "/nix/store".into(),
                source: chroot.store().into(),
                inputs: inputs.collect(),
            },
            temporary_directory: chroot.temporary_directory().into(),
            network,
            id_count: 1,
            network_helper: None,
            kvm: false,
            shared_memory_size: "50%".into(),
            paths: vec![],
            mask_proc: true,
        }));
        let plan = self.plan(&build, confinement, "/nix/store/builder".into());
        run(&self.launcher, &plan);
        drop(build);
        drop(chroot);
    }

    fn build_without(&self) {
        let build = self.builds.create(b"x.drv", &Credentials::Caller).unwrap();
        let mut plan = self.plan(&build, Confinement::None, self.store.join("builder").into());
        plan.credentials = Credentials::Caller;
        run(&self.launcher, &plan);
        drop(build);
    }

    fn measure(&self, name: &str, count: u32, mut build: impl FnMut()) {
        if self.wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            return;
        }
        let (own, launcher, machine) = (own_cpu(), self.launcher_cpu(), machine_cpu());
        let start = Instant::now();
        for _ in 0..count {
            build();
        }
        let wall = start.elapsed();
        // Let the kernel finish what it does later.
        std::thread::sleep(Duration::from_millis(300));
        println!(
            "{name:<28} {:>6} µs wall, CPU: {:>5} µs engine, {:>5} µs launcher and builders, {:>5} µs machine",
            (wall / count).as_micros(),
            ((own_cpu() - own) / count).as_micros(),
            ((self.launcher_cpu() - launcher) / count).as_micros(),
            ((machine_cpu() - machine) / count).as_micros(),
        );
    }

    /// Of the launcher proper, which is the guardian's only child, and of all that it has waited for.
    fn launcher_cpu(&self) -> Duration {
        let guardian = self.launcher.guardian_pid();
        let children = fs::read_to_string(format!("/proc/{guardian}/task/{guardian}/children")).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", children.trim())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        ticks(fields[11..15].iter().map(|field| field.parse::<u64>().unwrap()).sum())
    }
}

fn run(launcher: &Launcher, plan: &LaunchPlan) {
    let builder = launcher.launch(plan).unwrap();
    let mut exit = None;
    loop {
        match builder.status.receive().unwrap() {
            Receipt::Message(StatusMessage::Exited(ended)) => exit = Some(ended.status),
            Receipt::Message(StatusMessage::SetupFailed(error)) => panic!("{error}"),
            Receipt::Message(_) => {}
            Receipt::Nothing => {
                builder.status.wait(None).unwrap();
            }
            Receipt::Closed => break,
        }
    }
    assert_eq!(exit, Some(ExitStatus::Code(0)));
}

/// The same namespaces, entered by `unshare(1)`, for the same program.
fn floor(program: &Path, bench: &Bench, count: u32) {
    let mut options = vec!["--pid", "--fork", "--mount", "--ipc", "--uts", "--net"];
    if !rustix::process::geteuid().is_root() {
        options.extend(["--user", "--map-root-user"]);
    }
    bench.measure("floor: unshare(1) and exec", count, || {
        let status = Command::new("unshare").args(&options).arg(program).status().unwrap();
        assert!(status.success());
    });
    bench.measure("floor: spawn and exec", count, || {
        assert!(Command::new(program).status().unwrap().success());
    });
}

fn own_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    ticks(fields[11..15].iter().map(|field| field.parse::<u64>().unwrap()).sum())
}

/// All time that the processors were not idle.
fn machine_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    // Fourth is idle, fifth waits for the disk, and the last two are counted in the first ones too.
    ticks(fields[..8].iter().sum::<u64>() - fields[3] - fields[4])
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
}
