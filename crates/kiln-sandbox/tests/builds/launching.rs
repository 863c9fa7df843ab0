//! The launcher itself: many builds, large plans, bad requests.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use kiln_sandbox::*;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

use crate::support::*;

#[test]
fn two_hundred_builds_at_a_time() {
    let launcher = start_launcher();
    let worlds: Vec<_> = (0..200).map(|_| World::new()).collect();
    let running: Vec<_> = worlds
        .iter()
        .enumerate()
        .map(|(number, world)| {
            launcher
                .launch(&world.plan(&["identity", "sleep=20", &format!("exit={}", number % 100)]))
                .unwrap()
        })
        .collect();
    for (number, builder) in running.into_iter().enumerate() {
        let outcome = finish(builder);
        assert_eq!(outcome.status(), ExitStatus::Code(number as i32 % 100));
        assert!(outcome.log.starts_with("uid 1000 gid 100"), "{}", outcome.log);
    }
}

#[test]
fn large_plans_arrive_whole() {
    let world = World::new();
    let mut plan = world.plan(&["env"]);
    let value = "x".repeat(100_000);
    plan.environment = (0..10).map(|number| (format!("V{number}").into(), value.as_str().into())).collect();
    plan.files.push(PlacedFile { name: "large".into(), contents: vec![b'y'; 5 << 20].into(), mode: 0o644 });
    let outcome = run(&plan);
    outcome.assert_success();
    assert_eq!(outcome.log.len(), 10 * (100_000 + 4));
    assert_eq!(std::fs::metadata(world.path("builds/x/build/large")).unwrap().len(), 5 << 20);
}

#[test]
fn an_environment_beyond_the_kernels_limit_is_the_builders_failure() {
    let world = World::new();
    let mut plan = world.plan(&[]);
    plan.environment = vec![("V".into(), "x".repeat(200_000).into())];
    let outcome = run(&plan);
    assert_eq!(outcome.status(), ExitStatus::Code(1));
    assert_eq!(outcome.log, "executing '/nix/store/builder': Argument list too long\n");
}

#[test]
fn a_thousand_inputs() {
    let world = World::new();
    let mut plan = world.plan(&["cat=/nix/store/input-0999/file", "write=/nix/store/input-0000/file"]);
    for number in 0..1000 {
        let name = format!("input-{number:04}");
        let path = world.path("store").join(&name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), &name).unwrap();
        std::fs::set_permissions(path.join("file"), std::fs::Permissions::from_mode(0o666)).unwrap();
        let input = Input { name: name.as_str().into(), source: path.into() };
        sandbox_of(&mut plan).store.inputs.push(input);
    }
    let outcome = run(&plan);
    outcome.assert_success();
    assert_eq!(outcome.log, "input-0999write: EROFS\n");
}

/// Speaks to a launcher as a broken engine would.
struct BrokenEngine {
    control: OwnedFd,
    guardian: std::process::Child,
}

impl BrokenEngine {
    fn start() -> Self {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (control, theirs) = pair().unwrap();
        let guardian = Command::new(env!("CARGO_BIN_EXE_kiln-launcher"))
            .arg(LAUNCHER_ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { control, guardian }
    }

    /// What comes back over the channel that goes with the request.
    fn ask(&self, request: &[u8], more_descriptors: usize) -> String {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let others: Vec<_> =
            (0..more_descriptors).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let mut descriptors = vec![std::os::fd::AsFd::as_fd(&theirs)];
        descriptors.extend(others.iter().map(std::os::fd::AsFd::as_fd));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&self.control, &[IoSlice::new(request)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        drop(descriptors);
        drop(theirs);
        let mut answer = String::new();
        loop {
            let mut buffer = vec![0; 65536];
            let (count, _) = rustix::net::recv(&ours, &mut *buffer, rustix::net::RecvFlags::empty()).unwrap();
            if count == 0 {
                return answer;
            }
            answer.push_str(str::from_utf8(&buffer[..count]).unwrap());
        }
    }
}

#[test]
fn bad_requests_are_answered_and_survived() {
    let groundwork = r#"{"network":"private","build_directory":"/build","mapped":[],"kvm":false,
        "shared_memory_size":"50%","mask_proc":true,"system_calls":"strict"}"#;
    let header = &format!(r#"{{"launch":{{"groundwork":{groundwork},"cgroup":null,"build_user":null}}}}"#);
    let mut engine = BrokenEngine::start();
    for (request, descriptors, expected) in [
        ("", 0, ""),
        ("nonsense", 0, "the request is not understood"),
        ("{}", 2, "the request is not understood"),
        (&header.replace("true", "7"), 2, "the request is not understood"),
        (header, 0, "the request lacks descriptors"),
        (header, 1, "the request lacks descriptors"),
        // The plan is empty.
        (header, 2, "cannot read the plan"),
        (&"x".repeat(40_000), 2, "the request is too long"),
        ("\"probe\"", 0, "probed"),
    ] {
        if request.is_empty() {
            continue;
        }
        let answer = engine.ask(request.as_bytes(), descriptors);
        assert!(answer.contains(expected), "{request:.60}: {answer}");
    }
    drop(engine.control);
    engine.guardian.wait().unwrap();
}

#[test]
fn a_launcher_that_cannot_be_started_is_an_error() {
    let error = Launcher::start_program(std::path::Path::new("/does/not/exist")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start the launcher '/does/not/exist': No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_no_launcher_is_noticed() {
    let launcher = Launcher::start_program(std::path::Path::new("/bin/true")).unwrap();
    let world = World::new();
    wait_until("the refusal", || {
        matches!(launcher.launch(&world.plan(&[])), Err(SandboxError::LauncherGone))
    });
}
