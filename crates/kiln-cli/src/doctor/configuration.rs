//! Settings: whether they can be read, are known, and are wise.

use std::ffi::CString;

use kiln_settings::{Configuration, SandboxMode};
use kiln_sys::accounts::{group_by_name, user_by_name};

use super::{Facts, Finding};
use crate::configuration;
use crate::invocation::Invocation;

const AREA: &str = "Settings";

/// Reads the settings; `None` if that is impossible.
pub(super) fn load(invocation: &Invocation<'_>) -> (Option<Configuration>, Vec<Finding>) {
    // What is odd is told below.
    let quiet = kiln_events::EventSender::null();
    let configuration = match configuration::load(invocation.environment, invocation.global, &quiet) {
        Ok(configuration) => configuration,
        Err(failure) => {
            let finding = Finding::problem(AREA, failure.message()).advise(
                "until this is corrected no command works; the rest is looked at with default settings",
            );
            return (None, vec![finding]);
        }
    };
    let mut findings: Vec<Finding> = Vec::new();
    for warning in configuration.warnings() {
        findings.push(
            Finding::warning(AREA, warning.to_string())
                .advise("correct or delete the line; 'kiln config describe' lists what there is"),
        );
    }
    for (old, new) in configuration.old_names() {
        findings.push(
            Finding::note(AREA, format!("'{old}' is an older name of the setting '{new}'"))
                .advise(format!("write '{new}'")),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, "all settings that were found are known"));
    }
    (Some(configuration), findings)
}

/// Settings that are not wise.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let settings = facts.settings();
    let mut findings = Vec::new();
    if settings.trusted_users.iter().any(|word| word == "*") {
        findings.push(
            Finding::warning(
                AREA,
                "'trusted-users' has '*': every local user can become root by way of the daemon",
            )
            .advise("name the users who may, or none"),
        );
    }
    for (setting, words) in
        [("trusted-users", &settings.trusted_users), ("allowed-users", &settings.allowed_users)]
    {
        findings.extend(words.iter().filter(|word| is_nobody(word)).map(|word| {
            Finding::note(AREA, format!("'{setting}' names '{word}', which is nobody on this machine"))
                .advise("correct or delete the name")
        }));
    }
    if settings.allowed_users.is_empty() {
        findings
            .push(Finding::warning(AREA, "'allowed-users' is empty: only trusted users can use the daemon"));
    }
    if settings.sandbox == SandboxMode::False {
        findings.push(
            Finding::warning(
                AREA,
                "'sandbox = false': builders see the whole machine, and results depend on it",
            )
            .advise("set 'sandbox = true' unless this machine cannot sandbox builds"),
        );
    }
    if settings.sandbox_fallback {
        findings.push(Finding::warning(
            AREA,
            "'sandbox-fallback = true': where no sandbox can be had, builds silently go without",
        ));
    }
    if !settings.filter_syscalls {
        findings.push(
            Finding::warning(AREA, "'filter-syscalls = false': every local user is as good as root")
                .advise("set 'filter-syscalls = true'"),
        );
    }
    if !settings.require_sigs {
        findings.push(
            Finding::warning(AREA, "'require-sigs = false': whatever a substituter sends is believed")
                .advise("set 'require-sigs = true' and the keys of the caches in 'trusted-public-keys'"),
        );
    }
    let is_key = |text: &&String| text.parse::<kiln_narinfo::PublicKey>().is_err();
    findings.extend(settings.trusted_public_keys.iter().filter(is_key).map(|text| {
        Finding::problem(AREA, format!("'trusted-public-keys' has '{text}', which is no key"))
            .advise("keys look like 'NAME:BASE64'")
    }));
    findings
}

/// Whether a word of a list of users means nobody. `*` means everybody; whom the name services do not tell is somebody.
fn is_nobody(word: &str) -> bool {
    let name = |name: &str| CString::new(name).ok();
    match word.strip_prefix('@') {
        _ if word == "*" => false,
        Some(group) => name(group).is_none_or(|group| matches!(group_by_name(&group), Ok(None))),
        None => name(word).is_none_or(|user| matches!(user_by_name(&user), Ok(None))),
    }
}
