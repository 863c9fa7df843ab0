//! The table against the settings of real Nix.
//!
//! `nix-2.8.0-settings.json` is from `nix show-config --json` of Nix 2.8.0 (names, aliases, defaults); the two
//! `nix-*-settings.txt` are the settings that Nix 2.26.3 and 2.34.8 hand to their build hook, on a machine where some
//! were set.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_settings::{Configuration, Machine, Origin, Settings, SourceError, TABLE, Warning, find_setting};
use serde_json::Value;

const NIX_2_8: &str = include_str!("data/nix-2.8.0-settings.json");
const NIX_2_26: &str = include_str!("data/nix-2.26.3-settings.txt");
const NIX_2_34: &str = include_str!("data/nix-2.34.8-settings.txt");

/// The machine that the data is from.
fn machine() -> Machine {
    Machine {
        cpus: 2,
        x86_64_level: 4,
        has_kvm: true,
        ssl_cert_file: Some("/etc/ssl/certs/ca-certificates.crt".into()),
        ..Machine::plain("x86_64-linux")
    }
}

fn settings_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(|line| line.split_once(" = ").unwrap_or((line.trim_end_matches(" ="), "")))
}

fn no_files(_: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    Ok(None)
}

/// Every setting of Nix is in the table, or is known to mean nothing here.
#[test]
fn names_of_nix_are_known() {
    let old: Value = serde_json::from_str(NIX_2_8).unwrap();
    let names = old.as_object().unwrap().keys().map(String::as_str);
    let names: BTreeSet<&str> =
        names.chain([NIX_2_26, NIX_2_34].into_iter().flat_map(settings_of).map(|(name, _)| name)).collect();
    let mut configuration = Configuration::new(&machine());
    for name in names {
        if find_setting(name).is_none() {
            configuration.set(name, "x", Origin::CommandLine).unwrap();
        }
    }
    for warning in configuration.warnings() {
        assert!(matches!(warning, Warning::NoEffect(_)), "{warning}");
    }
}

#[test]
fn aliases_are_those_of_nix() {
    let old: Value = serde_json::from_str(NIX_2_8).unwrap();
    for (name, row) in old.as_object().unwrap() {
        if let Some(setting) = find_setting(name) {
            for alias in row["aliases"].as_array().unwrap() {
                assert!(setting.aliases.contains(&alias.as_str().unwrap()), "{name}: {alias}");
            }
        }
    }
}

/// Defaults are those of Nix 2.8.0, but for these.
#[test]
fn defaults_are_those_of_nix_2_8() {
    // Newer Nix has other ones (the first six), or we chose safer ones.
    let ours = [
        ("connect-timeout", "15"),
        ("cores", "0"),
        ("ignored-acls", "security.csm security.selinux system.nfs4_acl"),
        ("log-lines", "25"),
        ("max-free", "9223372036854775807"),
        ("store", "auto"),
        ("sandbox-fallback", "false"),
        // Ours is the caller's affair.
        ("build-hook", ""),
    ];
    let old: Value = serde_json::from_str(NIX_2_8).unwrap();
    let defaults = Settings::defaults(&machine());
    let mut differing = BTreeSet::new();
    for (name, row) in old.as_object().unwrap() {
        let Some(setting) = find_setting(name) else { continue };
        // The level of the processor that it was made on is one less than of the other data.
        if name == "extra-platforms" {
            continue;
        }
        if setting.json(&defaults) != row["defaultValue"] {
            differing.insert((setting.name, setting.show(&defaults)));
        }
    }
    assert_eq!(differing, ours.map(|(name, value)| (name, value.to_owned())).into_iter().collect());
}

/// Of Nix 2.34.8, all but what was set on the machine, and what we chose.
#[test]
fn defaults_are_those_of_nix_2_34() {
    let set_there =
        ["build-hook", "builders", "netrc-file", "sandbox", "sandbox-paths", "store", "substituters"];
    let ours = ["sandbox-fallback"];
    let defaults = Settings::defaults(&machine());
    let differing: BTreeSet<&str> = settings_of(NIX_2_34)
        .filter(|(name, value)| find_setting(name).is_some_and(|setting| setting.show(&defaults) != *value))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(differing, set_there.into_iter().chain(ours).collect());
}

/// What Nix hands to its hook, we can read, and show again in the same words.
#[test]
fn settings_of_nix_can_be_read() {
    for text in [NIX_2_26, NIX_2_34] {
        // `NAME =` without a value is how nix.conf says "empty".
        let mut configuration = Configuration::new(&Machine::plain("aarch64-linux"));
        configuration.apply(text.into(), Path::new("nix.conf"), Origin::UserFile, &no_files).unwrap();
        let shown = configuration.show();
        for (name, value) in settings_of(text) {
            if find_setting(name).is_some() {
                assert!(shown.contains(&format!("{name} = {value}\n")), "{name} = {value}");
            }
        }
    }
}

/// Whatever is shown can be read again.
#[test]
fn what_is_shown_can_be_read() {
    let shown = Configuration::new(&machine()).show();
    let mut again = Configuration::new(&Machine::plain("aarch64-darwin"));
    again.apply(shown.into_bytes(), Path::new("shown"), Origin::UserFile, &no_files).unwrap();
    assert_eq!(again.settings(), &Settings::defaults(&machine()));
    assert!(again.warnings().is_empty());
    assert!(TABLE.iter().all(|setting| again.origins(setting).len() == 1));
}
