//! Settings of Nix that Kiln knows by name only, so that one `nix.conf` can serve both.

/// Settings of the language, of flakes, fetchers, shells and profiles. They are the business of the program that
/// evaluates; reading over them is all that a store has to do, so there is no warning.
const EVALUATOR: &[&str] = &[
    "abort-on-warn",
    "accept-flake-config",
    "access-tokens",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-unsafe-native-code-during-evaluation",
    "allowed-uris",
    "bash-prompt",
    "bash-prompt-prefix",
    "bash-prompt-suffix",
    "commit-lock-file-summary",
    "commit-lockfile-summary",
    "debugger-on-trace",
    "debugger-on-warn",
    "env-keep-derivations",
    "eval-attrset-update-layer-rhs-threshold",
    "eval-cache",
    "eval-cores",
    "eval-profile-file",
    "eval-profiler",
    "eval-profiler-frequency",
    "eval-system",
    "flake-registry",
    "ignore-try",
    "keep-env-derivations",
    "lazy-trees",
    "lint-absolute-path-literals",
    "lint-short-path-literals",
    "lint-url-literals",
    "max-call-depth",
    "nix-path",
    "nix-shell-always-looks-for-shell-nix",
    "nix-shell-shebang-arguments-relative-to-script",
    "pure-eval",
    "restrict-eval",
    "tarball-ttl",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "upgrade-nix-store-path-url",
    "use-registries",
    "use-xdg-base-directories",
    "warn-dirty",
    "warn-large-path-threshold",
    "warn-short-path-literals",
];

/// Settings of Nix's store whose effect Kiln hasn't. Somebody who sets one may count on it, so there is a warning.
const NO_EFFECT: &[&str] = &[
    "allow-symlinked-store",
    "download-buffer-size",
    "download-speed",
    "external-builders",
    "filetransfer-retry-delay",
    "filetransfer-retry-jitter",
    "http2",
    "impure-env",
    "narinfo-cache-meta-ttl",
    "nar-buffer-size",
    "plugin-files",
    "preallocate-contents",
    "require-drop-supplementary-groups",
    "user-agent-suffix",
];

/// Whether `name` is one of Nix's settings for evaluation, which a store can read over; also with `extra-` before it.
#[must_use]
pub fn is_evaluator_setting(name: &str) -> bool {
    EVALUATOR.contains(&name.strip_prefix("extra-").unwrap_or(name))
}

/// The setting of Nix's store that `name` stands for, if Kiln hasn't its effect.
pub(crate) fn without_effect(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("extra-").unwrap_or(name);
    NO_EFFECT.iter().copied().find(|candidate| *candidate == name)
}
