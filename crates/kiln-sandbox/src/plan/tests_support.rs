//! A plan for tests of other modules.

use super::*;

pub(crate) fn sandboxed() -> LaunchPlan {
    LaunchPlan {
        builder: "/bin/sh".into(),
        builtin: None,
        arguments: vec!["-c".into(), "true".into()],
        environment: vec![("PATH".into(), "/path-not-set".into())],
        build_directory: BuildDirectoryPlan { source: "/real/build".into(), target: "/build".into() },
        files: vec![],
        credentials: Credentials::BuildUser { uid: 30001, gid: 30000, supplementary_groups: vec![] },
        personality: PersonalityPlan::default(),
        system_calls: SystemCallFilter::Strict,
        open_files: None,
        cgroup: None,
        confinement: Confinement::Sandbox(Box::new(Sandbox {
            store: StoreView {
                target: "/nix/store".into(),
                source: "/real/x.chroot/store".into(),
                inputs: vec![Input { name: "abc-input".into(), source: "/real/store/abc-input".into() }],
            },
            temporary_directory: "/real/x.chroot/tmp".into(),
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
