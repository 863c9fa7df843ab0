//! Names as people say them.

/// Length of the digest in a store path.
const DIGEST_LENGTH: usize = 32;

/// The name of a derivation or store path without directory, digest and `.drv`:
/// `/nix/store/…-hello-2.12.drv` is `hello-2.12`.
#[must_use]
pub fn derivation_name(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = match base.split_at_checked(DIGEST_LENGTH) {
        Some((_, rest)) => rest.strip_prefix('-').filter(|rest| !rest.is_empty()).unwrap_or(base),
        None => base,
    };
    name.strip_suffix(".drv").unwrap_or(name)
}

/// That name without its version, as in the prefix of log lines: `hello-2.12` is `hello`. The version begins at the
/// first `-` that no letter follows.
#[must_use]
pub fn package_name(path: &str) -> &str {
    let name = derivation_name(path);
    let version = name
        .char_indices()
        .zip(name.chars().skip(1))
        .find(|((_, dash), next)| *dash == '-' && !next.is_ascii_alphabetic());
    version.and_then(|((at, _), _)| name.get(..at)).filter(|package| !package.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_paths() {
        for (path, name, package) in [
            ("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-a-50.drv", "a-50", "a"),
            ("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-hello-2.12", "hello-2.12", "hello"),
            ("zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-gcc-wrapper-13.2.0.drv", "gcc-wrapper-13.2.0", "gcc-wrapper"),
            ("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-dash-", "dash-", "dash-"),
            ("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp--1", "-1", "-1"),
            ("something.drv", "something", "something"),
            (
                "/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp",
                "zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp",
                "zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp",
            ),
            ("", "", ""),
        ] {
            assert_eq!((derivation_name(path), package_name(path)), (name, package), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_has_a_name(path in ".*") {
            prop_assert!(path.contains(derivation_name(&path)));
            prop_assert!(derivation_name(&path).starts_with(package_name(&path)));
        }
    }
}
