//! Newer clients whom their daemon does not trust: what they may not, and what they are told then.

use super::same_answers::compare;

/// Nix's own daemon trusts nobody then. Kiln's trusts the user that it runs as, unless it is told not to.
const SETTINGS: &str = "trusted-users = nobody-here\n";

/// What is refused or ignored, and what is not.
const SCRIPTS: &[&str] = &[
    "nix-build -A b -o result && readlink result",
    // Settings.
    "nix-build -A b --no-out-link --option sandbox false --option post-build-hook /bin/true",
    "nix build -f . b --no-link --option builders 'ssh://elsewhere x86_64-linux' --option max-silent-time 7",
    "nix-build -A b --no-out-link --option substituters https://elsewhere.example",
    "nix-build -A b --no-out-link --option extra-substituters https://elsewhere.example",
    "nix-build -A b --no-out-link --option require-sigs false --option trusted-public-keys key-1:AAAA",
    "nix-build -A b --no-out-link --option timeout 100 --option connect-timeout 3 --option builders ''",
    "nix-build -A timeout --timeout 1 --no-out-link",
    // Paths that nothing vouches for.
    "nix-store --export $(nix-store -qR result) > exported",
    "nix copy --to file://$PWD/cache ./result",
    "nix-build -A b -o result >/dev/null && readlink result > path",
    "rm result; nix-collect-garbage >/dev/null 2>&1; nix-store --import < exported",
    "nix-store --check-validity $(cat path)",
    "nix copy --from file://$PWD/cache $(cat path)",
    "nix copy --no-check-sigs --from file://$PWD/cache $(cat path)",
    "nix-store --check-validity $(cat path)",
    "nix copy --no-check-sigs --from file://$PWD/cache $(cat path) --option require-sigs false",
    // Paths that need nobody to vouch for them.
    "nix-store --add tree",
    "nix-store --add-fixed sha256 default.nix",
    "nix store add-path tree",
    "nix-store --export $(nix-store --add default.nix) > source; nix-store --import < source",
    // Upkeep.
    "nix-build -A a --repair --no-out-link",
    "nix-store --verify --check-contents --repair",
    "nix-store --verify",
    "nix-store --gc --print-roots | sort",
    "nix store copy-log --from local?root=$PWD/nowhere ./default.nix",
    "nix store info 2>&1 | grep Trusted",
    "nix store ping --json | sed 's/\"version\":\"[^\"]*\"//'",
];

#[test]
fn newer_clients_without_trust_get_the_answers_of_their_own_daemon() {
    compare(SETTINGS, &["--force-untrusted"], SCRIPTS);
}
