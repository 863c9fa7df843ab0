//! The table of settings.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::job_limit::MaxJobs;
use crate::machine::Machine;
use crate::sandbox_values::{FodNetwork, SandboxMode, SandboxPath};
use crate::store_url::StoreUrl;
use crate::value::{Kind, SettingValue, ValueError};

/// Who may set a setting in a daemon. The daemon's own files, environment and command line may set all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every client.
    Anyone,
    /// Every client, but clients that aren't trusted only to values that can't harm others (see
    /// [`client`](crate::client)).
    Limited,
    /// Clients of trusted users.
    Trusted,
    /// No client.
    System,
}

/// One row of the table.
pub struct Setting {
    /// The name in `nix.conf`.
    pub name: &'static str,
    /// Older names that still work.
    pub aliases: &'static [&'static str],
    /// The sort of its value.
    pub kind: Kind,
    /// Who may set it.
    pub scope: Scope,
    /// What it does, for people; Markdown.
    pub help: &'static str,
    /// Adds of values are possible (`extra-NAME`).
    pub appendable: bool,
    assign: fn(&mut Settings, &str) -> Result<(), ValueError>,
    append: fn(&mut Settings, &str) -> Option<Result<(), ValueError>>,
    show: fn(&Settings) -> String,
    json: fn(&Settings) -> Value,
    copy: fn(&Settings, &mut Settings),
}

impl Setting {
    /// Gives the setting the value that `text` stands for.
    pub fn assign(&self, settings: &mut Settings, text: &str) -> Result<(), ValueError> {
        (self.assign)(settings, text)
    }

    /// Adds `text` to the setting's value; `None` if its values can't be added to.
    pub fn append(&self, settings: &mut Settings, text: &str) -> Option<Result<(), ValueError>> {
        (self.append)(settings, text)
    }

    /// The value as it is written in `nix.conf`.
    #[must_use]
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }

    /// The value as JSON.
    #[must_use]
    pub fn json(&self, settings: &Settings) -> Value {
        (self.json)(settings)
    }

    /// Gives the setting in `to` the value that it has in `from`.
    pub fn copy(&self, from: &Settings, to: &mut Settings) {
        (self.copy)(from, to);
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The setting of this name or alias, without `extra-`.
#[must_use]
pub fn find_setting(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.name == name || setting.aliases.contains(&name))
}

/// What is substituted from unless the settings say otherwise; it has paths of `/nix/store` alone.
pub const DEFAULT_SUBSTITUTER: &str = "https://cache.nixos.org/";

/// Makes the table and the type of its values from rows
/// `"name" ["alias", …] field: Type = |machine| default, Scope, "help";`.
macro_rules! settings {
    ($($name:literal [$($alias:literal),*] $field:ident: $type:ty = $default:expr, $scope:ident, $help:literal;)*) => {
        /// The value of each setting.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Settings {
            /// The values that settings have where nobody sets them.
            #[must_use]
            pub fn defaults(machine: &Machine) -> Settings {
                $(let $field: fn(&Machine) -> $type = $default;)*
                Settings { $($field: $field(machine),)* }
            }
        }

        /// All settings, by name.
        pub static TABLE: &[Setting] = &[
            $(Setting {
                name: $name,
                aliases: &[$($alias),*],
                kind: <$type as SettingValue>::KIND,
                scope: Scope::$scope,
                help: $help,
                appendable: matches!(<$type as SettingValue>::KIND, Kind::Words),
                assign: |settings, text| {
                    settings.$field = SettingValue::parse(text)?;
                    Ok(())
                },
                append: |settings, text| SettingValue::add(&mut settings.$field, text),
                show: |settings| settings.$field.render(),
                json: |settings| settings.$field.to_json(),
                copy: |from, to| to.$field = from.$field.clone(),
            },)*
        ];
    };
}

/// Text that may be absent.
type Maybe = Option<String>;
/// Words in order.
type List = Vec<String>;
/// Words without order.
type Set = BTreeSet<String>;

fn list(words: &[&str]) -> List {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn set(words: &[&str]) -> Set {
    words.iter().map(|word| (*word).to_owned()).collect()
}

// What Nix leaves unlimited, it writes as the largest signed number.
const UNLIMITED: u64 = i64::MAX as u64;

settings! {
    "allow-import-from-derivation" [] allow_import_from_derivation: bool = |_| true, Trusted,
        "Whether evaluation may build. It is the evaluator's affair; Kiln accepts it and does nothing with it.";
    "allow-new-privileges" [] allow_new_privileges: bool = |_| false, System,
        "Accepted for compatibility and without effect: builders can never gain privileges from set-user-id programs or file capabilities.";
    "allowed-impure-host-deps" [] allowed_impure_host_deps: Set = |machine| if machine.is_darwin() { set(&["/System/Library", "/usr/lib", "/dev", "/bin/sh"]) } else { Set::new() }, Trusted,
        "Paths of the machine that derivations may ask for with `__impureHostDeps`; what lies below them is allowed too.";
    "allowed-users" [] allowed_users: List = |_| list(&["*"]), System,
        "Users who may use the daemon: names, `@GROUP` for the members of a group, `*` for everybody. Trusted users always may.";
    "always-allow-substitutes" [] always_allow_substitutes: bool = |_| false, Trusted,
        "Substitute also derivations that ask not to be substituted (`allowSubstitutes = false`).";
    "auto-allocate-uids" [] auto_allocate_uids: bool = |_| false, System,
        "Run builders under user ids from a range of their own (`start-id`, `id-count`) instead of those of `build-users-group`; only as root. With `use-cgroups`, derivations that require the feature `uid-range` (to be named in `system-features`) are root among 65536 ids then.";
    "auto-optimise-store" [] auto_optimise_store: bool = |_| false, Trusted,
        "Replace files that the store has already by hard links as they come in.";
    "build-dir" [] build_dir: Maybe = |_| None, System,
        "The directory in which build directories are made. If it is empty, `builds` in the state directory.";
    "build-hook" [] build_hook: List = |machine| machine.build_hook.clone(), System,
        "The command that is asked, before each build, whether another machine should do it; by default that of an installed Nix. Empty for none.";
    "build-poll-interval" [] build_poll_interval: u64 = |_| 5, Anyone,
        "After how many seconds a build that the hook postponed is offered again.";
    "build-users-group" [] build_users_group: String = |machine| if machine.is_root { "nixbld".to_owned() } else { String::new() }, System,
        "The group whose members builders run as. If it is empty, they run as the user that Kiln runs as.";
    "builders" [] builders: String = |machine| format!("@{}/machines", machine.conf_dir), Limited,
        "Machines for remote builds, one for each line or `;`; `@FILE` stands for what is in a file.";
    "builders-use-substitutes" [] builders_use_substitutes: bool = |_| false, Trusted,
        "Let remote builders fetch inputs from their own substituters, where they can, instead of uploading them.";
    "compress-build-log" ["build-compress-log"] compress_build_log: bool = |_| true, Trusted,
        "Compress build logs with bzip2.";
    "connect-timeout" [] connect_timeout: u64 = |_| 15, Anyone,
        "How many seconds making a connection for a transfer may take; 0 for any time.";
    "cores" ["build-cores"] cores: u64 = |_| 0, Anyone,
        "How many processors a builder should use (`NIX_BUILD_CORES`); 0 for all. It is up to the builder to do so.";
    "darwin-log-sandbox-violations" [] darwin_log_sandbox_violations: bool = |_| false, Trusted,
        "On macOS, log what the sandbox refuses in the system's log.";
    "diff-hook" [] diff_hook: Maybe = |_| None, System,
        "The program that is run, with `run-diff-hook`, when a build gave another result than before.";
    "download-attempts" ["filetransfer-retry-attempts"] download_attempts: u64 = |_| 5, Trusted,
        "How often a transfer is tried before it counts as failed.";
    "enforce-determinism" [] enforce_determinism: bool = |_| true, Trusted,
        "With `repeat`, fail a build whose rounds differ; otherwise only warn.";
    "experimental-features" [] experimental_features: Set = |_| Set::new(), System,
        "Names of features that are not on by default.";
    "extra-platforms" [] extra_platforms: Set = Machine::extra_platforms, Trusted,
        "Platforms other than `system` whose derivations can be built here, for instance by emulation.";
    "fallback" ["build-fallback"] fallback: bool = |_| false, Anyone,
        "Build what a substituter offers but fails to deliver.";
    "filter-syscalls" [] filter_syscalls: bool = |_| true, System,
        "On Linux, refuse system calls to builders that a build should not make. Turning this off makes every local user as good as root.";
    "fod-network" [] fod_network: FodNetwork = |_| FodNetwork::Auto, Trusted,
        "The network of fixed-output derivations: `host` is the machine's, `auto` is one of their own where possible and otherwise the machine's with a warning, `isolated` is one of their own or none. One of their own needs the program `pasta` (see `pasta-path`); from it, addresses of the machine's loopback interface cannot be reached.";
    "fsync-metadata" [] fsync_metadata: bool = |_| true, System,
        "Make sure that the database is on the disk before going on.";
    "fsync-store-paths" [] fsync_store_paths: bool = |_| false, System,
        "Make sure that new store paths are on the disk before they are registered.";
    "gc-reserved-space" [] gc_reserved_space: u64 = |_| 8 << 20, System,
        "Bytes that are kept aside so that garbage can be collected on a full disk.";
    "hashed-mirrors" [] hashed_mirrors: List = |_| List::new(), Trusted,
        "Web servers that have files by hash; `builtin:fetchurl` asks them first.";
    "http-connections" ["binary-caches-parallel-connections"] http_connections: u64 = |_| 25, Trusted,
        "How many requests there may be to one binary cache at once; 0 for any number.";
    "id-count" [] id_count: u64 = |_| 128 << 16, System,
        "With `auto-allocate-uids`, how many user ids the range has.";
    "ignored-acls" [] ignored_acls: Set = |_| set(&["security.csm", "security.selinux", "system.nfs4_acl"]), Trusted,
        "Extended attributes that outputs may keep, since removing them is not allowed or does not last.";
    "impersonate-linux-26" ["build-impersonate-linux-26"] impersonate_linux_26: bool = |_| false, Trusted,
        "Tell builders that the kernel is Linux 2.6.";
    "json-log-path" [] json_log_path: Maybe = |_| None, System,
        "A file or Unix domain socket that also gets all events, as JSON objects, one in a line.";
    "keep-build-log" ["build-keep-log"] keep_build_log: bool = |_| true, Trusted,
        "Write the logs of builds to files (`kiln log` shows them).";
    "keep-derivations" ["gc-keep-derivations"] keep_derivations: bool = |_| true, Trusted,
        "Collect no derivation as garbage whose outputs are not garbage.";
    "keep-failed" [] keep_failed: bool = |_| false, Anyone,
        "Keep the build directories of failed builds.";
    "keep-going" [] keep_going: bool = |_| false, Anyone,
        "After a failure, go on with whatever does not depend on it.";
    "keep-outputs" ["gc-keep-outputs"] keep_outputs: bool = |_| false, Trusted,
        "Collect no output as garbage whose derivation is not garbage.";
    "kiln-metrics-listen" [] kiln_metrics_listen: List = |_| List::new(), System,
        "Where Kiln's daemon tells those who watch over it what it does: each `unix:` with an absolute path, or `HOST:PORT`. Metrics and health are told to whoever can connect; who is doing what only at Unix sockets, which the daemon's user and group may use. Without a value nothing is told.";
    "log-lines" [] log_lines: u64 = |_| 25, Trusted,
        "How many of a failed build's last log lines are shown with the failure.";
    "max-build-log-size" ["build-max-log-size"] max_build_log_size: u64 = |_| 0, Trusted,
        "End a build that writes more than this many bytes of log; 0 for no limit.";
    "max-free" [] max_free: u64 = |_| UNLIMITED, Trusted,
        "When `min-free` starts a garbage collection, it stops when this many bytes are free.";
    "max-jobs" ["build-max-jobs"] max_jobs: MaxJobs = |_| MaxJobs::Count(1), Limited,
        "How many builds run on this machine at once; `auto` is as many as there are processors, 0 sends all builds to other machines.";
    "max-silent-time" ["build-max-silent-time"] max_silent_time: u64 = |_| 0, Anyone,
        "End a build that writes nothing for this many seconds; 0 for any time.";
    "max-substitution-jobs" ["substitution-max-jobs"] max_substitution_jobs: u64 = |_| 16, Trusted,
        "How many store paths are substituted at once; 0 is taken as 1.";
    "min-free" [] min_free: u64 = |_| 0, Trusted,
        "Collect garbage while working when fewer than this many bytes are free in the store; 0 for never.";
    "min-free-check-interval" [] min_free_check_interval: u64 = |_| 5, Trusted,
        "How many seconds pass at least between two checks for `min-free`.";
    "narinfo-cache-negative-ttl" [] narinfo_cache_negative_ttl: u64 = |_| 3600, Trusted,
        "For how many seconds it is remembered that a binary cache does not have a path.";
    "narinfo-cache-positive-ttl" [] narinfo_cache_positive_ttl: u64 = |_| 30 * 24 * 3600, Trusted,
        "For how many seconds it is remembered what a binary cache says about a path.";
    "netrc-file" [] netrc_file: String = |machine| format!("{}/netrc", machine.conf_dir), Trusted,
        "The file with user names and passwords for transfers, in the format of `netrc`.";
    "pasta-path" [] pasta_path: Maybe = |_| None, System,
        "The program `pasta` that connects the networks which fixed-output derivations have for themselves (`fod-network`). If it is empty, it is looked for in `PATH`.";
    "post-build-hook" [] post_build_hook: Maybe = |_| None, Trusted,
        "The program that is run after each build, with the derivation in `DRV_PATH` and its outputs in `OUT_PATHS`.";
    "pre-build-hook" [] pre_build_hook: Maybe = |_| None, System,
        "The program that is run before each sandboxed build and may add to the sandbox.";
    "print-missing" [] print_missing: bool = |_| true, Trusted,
        "Say what will be built and fetched before beginning.";
    "print-repeated-builds" [] print_repeated_builds: bool = |_| true, Trusted,
        "With `repeat`, show the log of every round and not only of the first.";
    "repeat" ["build-repeat"] repeat: u64 = |_| 0, Trusted,
        "How often each build is done again to see whether it gives the same.";
    "reported-nix-version" [] reported_nix_version: String = |_| "2.34.8".to_owned(), System,
        "Which version of Nix the daemon says it is, in the form `X.Y.Z`. Clients show it and compare it with their own; it changes nothing else.";
    "require-sigs" [] require_sigs: bool = |_| true, Trusted,
        "Take store paths from elsewhere only if a key in `trusted-public-keys` signed them or their contents say their name.";
    "run-diff-hook" [] run_diff_hook: bool = |_| false, Trusted,
        "Run `diff-hook` when a build gave another result than before, and keep that result.";
    "sandbox" ["build-use-chroot", "build-use-sandbox"] sandbox: SandboxMode = |machine| if machine.is_linux() { SandboxMode::True } else { SandboxMode::False }, Trusted,
        "Keep builders apart from the machine: they see their inputs, their build directory and what `sandbox-paths` names. `relaxed` lets derivations with `__noChroot` out.";
    "sandbox-build-dir" [] sandbox_build_dir: String = |_| "/build".to_owned(), Trusted,
        "On Linux, the name of the build directory within the sandbox.";
    "sandbox-dev-shm-size" [] sandbox_dev_shm_size: String = |_| "50%".to_owned(), Trusted,
        "On Linux, the size of `/dev/shm` within the sandbox, as the option `size` of a tmpfs.";
    "sandbox-fallback" [] sandbox_fallback: bool = |_| false, Trusted,
        "Build without a sandbox where the kernel refuses to make one. The default is to fail: a build should not lose its sandbox unnoticed.";
    "sandbox-paths" ["build-chroot-dirs", "build-sandbox-paths"] sandbox_paths: Vec<SandboxPath> = |_| Vec::new(), Trusted,
        "Paths of the machine that builders see in the sandbox: `PATH` or `TARGET=SOURCE`, with `?` at the end if it may be missing. Store paths bring their closure.";
    "secret-key-files" [] secret_key_files: List = |_| List::new(), Trusted,
        "Files with secret keys that sign what is built here.";
    "show-trace" [] show_trace: bool = |_| false, Trusted,
        "Show with errors what was being done when they happened.";
    "ssl-cert-file" [] ssl_cert_file: Maybe = |machine| machine.ssl_cert_file.clone(), Trusted,
        "The file with the certificates of authorities that transfers trust.";
    "stalled-download-timeout" [] stalled_download_timeout: u64 = |_| 300, Trusted,
        "After how many seconds without data a transfer counts as failed; 0 for never.";
    "start-id" [] start_id: u64 = |_| 0x3400_0000, System,
        "With `auto-allocate-uids`, the first user id of the range.";
    "store" [] store: StoreUrl = |_| StoreUrl::Auto, System,
        "The URL of the store: `auto` is the local one if it can be written to, else the daemon; `local`, `daemon`, `unix://SOCKET`, or the path of a directory that has a store of its own.";
    "substitute" ["build-use-substitutes"] substitute: bool = |_| true, Anyone,
        "Take store paths from substituters instead of building them.";
    "substituters" ["binary-caches"] substituters: List = |_| list(&[DEFAULT_SUBSTITUTER]), Limited,
        "URLs of stores that offer what would otherwise have to be built.";
    "sync-before-registering" [] sync_before_registering: bool = |_| false, Trusted,
        "Write the whole file system to the disk before registering a path.";
    "system" [] system: String = |machine| machine.system.clone(), Trusted,
        "The platform whose derivations are built here.";
    "system-features" [] system_features: Set = Machine::system_features, Trusted,
        "Features that this machine offers; a derivation with `requiredSystemFeatures` is built here only if all are among them.";
    "timeout" ["build-timeout"] timeout: u64 = |_| 0, Anyone,
        "End a build that takes more than this many seconds; 0 for any time.";
    "trusted-public-keys" ["binary-cache-public-keys"] trusted_public_keys: List = |_| list(&["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="]), Trusted,
        "Public keys whose signatures are believed, as `NAME:KEY`.";
    "trusted-substituters" ["trusted-binary-caches"] trusted_substituters: Set = |_| Set::new(), System,
        "URLs that clients who aren't trusted may use as `substituters`.";
    "trusted-users" [] trusted_users: List = |_| list(&["root"]), System,
        "Users whom the daemon trusts, in the form of `allowed-users`. They can do whatever root can.";
    "use-case-hack" [] use_case_hack: bool = Machine::is_darwin, System,
        "Give file names that differ only in case a suffix, for file systems that cannot tell them apart.";
    "use-cgroups" [] use_cgroups: bool = |_| false, System,
        "On Linux, run each builder in a control group of its own (version 2), below that of Kiln, to end it surely and to know what it used. Memory is counted, and the number of processes limited, where the controllers can be enabled there.";
    "use-sqlite-wal" [] use_sqlite_wal: bool = |_| true, System,
        "Let the database use a write-ahead log, which lets readers and a writer work at once.";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { x86_64_level: 3, has_kvm: true, is_root: true, cpus: 2, ..Machine::plain("x86_64-linux") }
    }

    #[test]
    fn names_are_unique_and_sorted() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        let mut names: Vec<&str> =
            TABLE.iter().flat_map(|row| row.aliases.iter().copied().chain([row.name])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    /// A value that is shown can be read, and is the same.
    #[test]
    fn shown_defaults_parse() {
        let defaults = Settings::defaults(&machine());
        let mut settings = Settings::defaults(&Machine::plain("aarch64-darwin"));
        for row in TABLE {
            row.assign(&mut settings, &row.show(&defaults)).unwrap();
        }
        assert_eq!(settings, defaults);
    }

    #[test]
    fn copying_and_adding_touch_their_setting_only() {
        let (from, original) =
            (Settings::defaults(&machine()), Settings::defaults(&Machine::plain("aarch64-darwin")));
        let mut to = original.clone();
        TABLE.iter().for_each(|row| row.copy(&from, &mut to));
        assert_eq!(to, from);
        for row in TABLE {
            let mut settings = original.clone();
            let added = row.append(&mut settings, "/x");
            assert_eq!(added.is_some(), row.appendable, "{}", row.name);
            let changed: Vec<&str> = TABLE
                .iter()
                .filter(|other| other.show(&settings) != other.show(&original))
                .map(|other| other.name)
                .collect();
            assert_eq!(changed, if row.appendable { vec![row.name] } else { vec![] });
        }
    }

    #[test]
    fn help_is_written_for_people() {
        for row in TABLE {
            assert!(row.help.len() > 20 && row.help.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn found_by_name_and_alias() {
        assert_eq!(find_setting("build-use-sandbox").unwrap().name, "sandbox");
        assert_eq!(find_setting("extra-platforms").unwrap().name, "extra-platforms");
        assert!(find_setting("extra-substituters").is_none());
        assert!(find_setting("").is_none());
    }

    #[test]
    fn defaults_depend_on_the_machine() {
        let linux = Settings::defaults(&machine());
        assert_eq!(linux.sandbox, SandboxMode::True);
        assert_eq!(linux.build_users_group, "nixbld");
        assert!(linux.system_features.contains("kvm"));
        let platforms: Vec<&str> = linux.extra_platforms.iter().map(String::as_str).collect();
        assert_eq!(platforms, ["i686-linux", "x86_64-v1-linux", "x86_64-v2-linux", "x86_64-v3-linux"]);
        let mac = Settings::defaults(&Machine { has_rosetta: true, ..Machine::plain("aarch64-darwin") });
        assert_eq!((mac.sandbox, mac.use_case_hack), (SandboxMode::False, true));
        assert_eq!(mac.build_users_group, "");
        assert!(mac.extra_platforms.contains("x86_64-darwin"));
    }
}
