use super::*;
use crate::plan::tests_support::sandboxed;
use crate::{Confinement, SandboxPath};

fn operations(change: impl FnOnce(&mut Sandbox)) -> Vec<MountOperation> {
    let mut plan = sandboxed();
    let Confinement::Sandbox(sandbox) = &mut plan.confinement else { unreachable!() };
    change(sandbox);
    let sandbox = sandbox.clone();
    mount_operations(&plan, &sandbox)
}

fn path(target: &str, source: &str) -> SandboxPath {
    SandboxPath { target: target.into(), source: source.into(), optional: false, read_only: false }
}

fn target(operation: &MountOperation) -> Option<String> {
    Some(
        match operation {
            MountOperation::File { target, .. }
            | MountOperation::Symlink { target, .. }
            | MountOperation::FileSystem { target, .. }
            | MountOperation::Mask { target }
            | MountOperation::ReadOnly { target }
            | MountOperation::Inputs { store: target }
            | MountOperation::Bind(Bind { target, .. }) => target,
            _ => return None,
        }
        .to_string(),
    )
}

fn targets(operations: &[MountOperation]) -> Vec<String> {
    operations.iter().filter_map(target).collect()
}

fn binds(operations: &[MountOperation]) -> Vec<&Bind> {
    operations
        .iter()
        .filter_map(|operation| match operation {
            MountOperation::Bind(bind) => Some(bind),
            _ => None,
        })
        .collect()
}

#[test]
fn x4_devices_are_those_of_nix() {
    let operations = operations(|_| {});
    let devices: Vec<_> = targets(&operations).into_iter().filter(|path| path.starts_with("/dev")).collect();
    assert_eq!(
        devices,
        [
            "/dev/full",
            "/dev/null",
            "/dev/random",
            "/dev/tty",
            "/dev/urandom",
            "/dev/zero",
            "/dev/fd",
            "/dev/stdin",
            "/dev/stdout",
            "/dev/stderr",
            "/dev/shm",
            "/dev/pts",
            "/dev/ptmx"
        ]
    );
}

#[test]
fn x4_kvm_only_if_asked_for() {
    assert!(targets(&operations(|sandbox| sandbox.kvm = true)).contains(&"/dev/kvm".to_owned()));
}

#[test]
fn x4_mapping_dev_whole_replaces_all_of_it() {
    let operations = operations(|sandbox| sandbox.paths.push(path("/dev", "/dev")));
    let devices: Vec<_> = targets(&operations).into_iter().filter(|path| path.starts_with("/dev")).collect();
    assert_eq!(devices, ["/dev"]);
}

#[test]
fn x4_mapping_pts_leaves_the_rest() {
    let targets = targets(&operations(|sandbox| sandbox.paths.push(path("/dev/pts", "/dev/pts"))));
    assert!(!targets.contains(&"/dev/ptmx".to_owned()));
    assert!(targets.contains(&"/dev/null".to_owned()));
    assert_eq!(targets.iter().filter(|target| *target == "/dev/pts").count(), 1);
}

#[test]
fn x5_the_hosts_network_brings_its_files_read_only_and_no_nscd() {
    let operations = operations(|sandbox| sandbox.network = Network::Host);
    let etc: Vec<_> =
        binds(&operations).into_iter().filter(|bind| bind.target.as_path().starts_with("/etc")).collect();
    assert_eq!(etc.len(), 3);
    assert!(etc.iter().all(|bind| bind.read_only && bind.optional));
    assert!(!targets(&operations).iter().any(|target| target.contains("nscd")));
}

#[test]
fn x6_paths_come_sorted_after_the_defaults_and_proc_is_ignored() {
    let operations = operations(|sandbox| {
        sandbox.paths = vec![path("/bin/sh", "/x/sh"), path("/bin", "/usr/bin"), path("/proc", "/proc")];
    });
    let targets = targets(&operations);
    let position = |wanted: &str| targets.iter().position(|target| target == wanted).unwrap();
    assert!(position("/bin") < position("/bin/sh"));
    assert!(position("/nix/store") < position("/bin"));
    assert!(!binds(&operations).iter().any(|bind| bind.source.as_bytes() == b"/proc"));
}

#[test]
fn x6_a_mapped_file_replaces_ours() {
    let operations = operations(|sandbox| sandbox.paths.push(path("/etc/passwd", "/x/passwd")));
    assert!(!operations.iter().any(|operation| {
        matches!(operation, MountOperation::File { target, .. } if target.as_bytes() == b"/etc/passwd")
    }));
}

#[test]
fn x8_the_root_is_entered_when_all_is_in_place_and_sealed_last() {
    let operations = operations(|_| {});
    assert_eq!(operations.first(), Some(&MountOperation::CreateRoot));
    assert_eq!(operations[operations.len() - 2..], [MountOperation::EnterRoot, MountOperation::SealRoot]);
    let masked = MountOperation::Mask { target: "/proc/kcore".into() };
    let proc = MountOperation::FileSystem { target: "/proc".into(), kind: FileSystemKind::Proc };
    let position = |wanted: &MountOperation| operations.iter().position(|operation| operation == wanted);
    assert!(position(&proc).unwrap() < position(&masked).unwrap());
}

#[test]
fn the_groundwork_needs_neither_the_host_nor_the_build() {
    let plan = sandboxed();
    let Confinement::Sandbox(sandbox) = &plan.confinement else { unreachable!() };
    for network in [Network::Private, Network::Host] {
        let sandbox = Sandbox { network, ..(**sandbox).clone() };
        let groundwork = groundwork_operations(&GroundworkPlan::of(&plan, &sandbox));
        assert!(groundwork.len() > 20);
        for bind in binds(&groundwork) {
            assert!(bind.source.as_bytes().starts_with(b"/dev/"), "{bind:?}");
        }
        // All that is left is the build's, or the host's.
        let own = |operation: &MountOperation| {
            matches!(operation, MountOperation::Mask { .. } | MountOperation::FileSystem { .. })
        };
        assert!(!build_operations(&plan, &sandbox).iter().any(own));
    }
}

#[test]
fn x10_nothing_of_the_host_is_bound_but_what_the_plan_names() {
    let operations = operations(|_| {});
    let sources: Vec<_> = binds(&operations).into_iter().map(|bind| bind.source.to_string()).collect();
    for source in sources {
        assert!(source.starts_with("/dev/") || source.starts_with("/real/"), "{source}");
    }
}
