//! The users that builds run as.

use std::collections::BTreeSet;
use std::ffi::CString;

use kiln_sys::accounts::{Group, group_by_name, user_by_name};

use super::{Facts, Finding};

const AREA: &str = "Build users";

/// Looks at the group of the build users.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let settings = facts.settings();
    if settings.auto_allocate_uids {
        let (first, count) = (settings.start_id, settings.id_count);
        return vec![Finding::ok(
            AREA,
            format!("{count} numbers from {first} on serve as build users (auto-allocate-uids)"),
        )];
    }
    let name = &settings.build_users_group;
    if name.is_empty() {
        let text = "'build-users-group' is empty: builds run as the user who runs the engine";
        return vec![if facts.is_root {
            Finding::warning(AREA, format!("{text}, which is root")).advise("make a group 'nixbld' with users (packaging/systemd/nix-daemon.sysusers), or set 'auto-allocate-uids = true'")
        } else {
            Finding::note(AREA, text)
        }];
    }
    let group = CString::new(name.as_str()).map(|name| group_by_name(&name));
    match group {
        Ok(Ok(Some(group))) => members(facts, name, &group),
        Ok(Err(errno)) => vec![Finding::warning(
            AREA,
            format!("the name services do not answer for the group '{name}': {errno}"),
        )],
        Ok(Ok(None)) | Err(_) => {
            let text = format!(
                "there is no group '{name}' (build-users-group), as members of which builds run that root's engine makes"
            );
            let finding =
                if facts.is_root { Finding::problem(AREA, text) } else { Finding::note(AREA, text) };
            vec![finding.advise("install the package's sysusers file and run 'systemd-sysusers', or set 'auto-allocate-uids = true'")]
        }
    }
}

fn members(facts: &Facts<'_>, name: &str, group: &Group) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut uids = BTreeSet::new();
    for member in &group.members {
        let shown = member.to_string_lossy();
        match user_by_name(member) {
            Ok(Some(user)) if user.uid == 0 => findings.push(
                Finding::problem(
                    AREA,
                    format!("'{shown}' is a member of '{name}' and root: builds would run as root"),
                )
                .advise(format!("take it out of the group '{name}'")),
            ),
            Ok(Some(user)) => {
                if !uids.insert(user.uid) {
                    findings.push(Finding::problem(AREA, format!("'{shown}' has the number of another build user, {}: builds could disturb each other", user.uid)));
                }
            }
            Ok(None) => findings
                .push(Finding::warning(AREA, format!("'{shown}' is a member of '{name}' and no user"))),
            Err(errno) => findings.push(Finding::warning(
                AREA,
                format!("the name services do not answer for '{shown}': {errno}"),
            )),
        }
    }
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let jobs = facts.settings().max_jobs.resolve(cpus);
    let count = uids.len() as u64;
    findings.push(if count == 0 {
        Finding::problem(AREA, format!("the group '{name}' has no members, so that nothing can be built as root")).advise("add users to it that have no other purpose")
    } else if count < jobs {
        Finding::warning(AREA, format!("{count} build users, but 'max-jobs' is {jobs}: no more builds run at once than there are users"))
            .advise(format!("make more users in '{name}'"))
    } else {
        Finding::ok(AREA, format!("{count} users in the group '{name}', for up to {jobs} builds at once"))
    });
    findings
}
