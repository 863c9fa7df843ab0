//! Becoming the builder's user, in a user namespace where no other IDs exist, and giving up every capability.

use std::fs;

use kiln_sys::process::{Namespaces, enter_namespaces};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid, capabilities,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::{Confinement, Credentials, Isolation, LaunchPlan, SetupError, SetupStage};

mod id_range;

/// The builder's user ID as it sees it.
const INSIDE_UID: u32 = 1000;
/// The builder's group ID as it sees it.
const INSIDE_GID: u32 = 100;

/// Takes the builder's credentials for good.
pub(super) fn assume(
    plan: &LaunchPlan,
    privileged: bool,
    isolation: &mut Isolation,
) -> Result<(), SetupError> {
    let sandboxed = matches!(plan.confinement, Confinement::Sandbox(_));
    set_groups(plan, sandboxed, isolation)?;
    if let Credentials::BuildUser { uid, gid, .. } = plan.credentials {
        become_user(uid, gid)?;
        isolation.build_user = true;
    }
    if let (Some(sandbox), Credentials::BuildUser { uid, gid, .. }) = (plan.sandbox(), &plan.credentials)
        && sandbox.id_count > 1
    {
        id_range::become_root(*uid, *gid, sandbox.id_count)?;
        isolation.users = true;
        return Ok(());
    }
    if sandboxed {
        let outside = OwnIds::current();
        match enter_namespaces(Namespaces::USER) {
            Ok(()) => {
                outside.map()?;
                isolation.users = true;
            }
            // Root gets by without: the mounts are its own, and the capabilities go all the same.
            Err(Errno::PERM | Errno::NOSPC | Errno::INVAL | Errno::NOSYS) if privileged => {}
            Err(errno) => return Err(failed("cannot create the builder's user namespace")(errno)),
        }
    }
    give_up_capabilities()
}

fn failed(message: &'static str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::new(SetupStage::Identity, message, errno)
}

fn set_groups(plan: &LaunchPlan, sandboxed: bool, isolation: &mut Isolation) -> Result<(), SetupError> {
    let groups: Vec<Gid> = match &plan.credentials {
        Credentials::BuildUser { supplementary_groups, .. } if !sandboxed => {
            supplementary_groups.iter().map(|gid| Gid::from_raw(*gid)).collect()
        }
        Credentials::Caller if !sandboxed => return Ok(()),
        _ => vec![],
    };
    match set_thread_groups(&groups) {
        Ok(()) => isolation.groups_dropped = true,
        // An ordinary user can't drop its groups; the isolation that is reported says so.
        Err(Errno::PERM) if plan.credentials == Credentials::Caller => {}
        Err(errno) => return Err(failed("cannot set the supplementary groups")(errno)),
    }
    Ok(())
}

/// Becomes a user without any privilege, for good. Does nothing that could be undone by an error: whoever fails ends.
pub(crate) fn renounce_root(uid: u32, gid: u32) -> Result<(), SetupError> {
    let cannot = failed("cannot become the build user");
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[]).map_err(&cannot)?;
    set_thread_res_gid(gid, gid, gid).map_err(&cannot)?;
    set_thread_res_uid(uid, uid, uid).map_err(&cannot)
}

/// Changes to the build user, but keeps the capabilities for the steps that are left.
///
/// Creating a user namespace is a privilege on some systems, and the right of every user on others. With it, the
/// namespace belongs to the build user, and so it may map itself.
pub(super) fn become_user(uid: u32, gid: u32) -> Result<(), SetupError> {
    let cannot = failed("cannot become the build user");
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true).map_err(&cannot)?;
    set_thread_res_gid(gid, gid, gid).map_err(&cannot)?;
    set_thread_res_uid(uid, uid, uid).map_err(&cannot)?;
    let permitted = capabilities(None).map_err(&cannot)?.permitted;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(&cannot)
}

/// The IDs of a process before it enters a user namespace, where it can't ask for them any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnIds {
    uid: u32,
    gid: u32,
}

impl OwnIds {
    /// Those of the calling process.
    pub(crate) fn current() -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw() }
    }

    /// In a user namespace just entered: makes them appear as the builder's, and no others exist.
    pub(crate) fn map(self) -> Result<(), SetupError> {
        let write = |path: &'static str, text: String| {
            fs::write(path, text).map_err(|error| {
                failed("cannot write to")(Errno::from_io_error(&error).unwrap_or(Errno::IO)).at(path)
            })
        };
        // The change of credentials has taken away the right to write to one's own files there.
        set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(failed("cannot become dumpable"))?;
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("{INSIDE_UID} {} 1\n", self.uid))?;
        write("/proc/self/gid_map", format!("{INSIDE_GID} {} 1\n", self.gid))
    }
}

/// Empties all sets, and sees to it that they stay empty, for user 0 too.
fn give_up_capabilities() -> Result<(), SetupError> {
    let cannot = failed("cannot give up capabilities");
    let held = capabilities(None).map_err(&cannot)?.effective;
    if held.contains(CapabilitySet::SETPCAP) {
        let locked = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(locked).map_err(&cannot)?;
        for number in 0..64 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
                Ok(()) => {}
                // The kernel knows no capability of this number, nor any beyond it.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(cannot(errno)),
            }
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(&cannot)
}
