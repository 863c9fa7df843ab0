//! The packages that an environment is made of.

use crate::attributes::{invalid, path};
use crate::error::{BuiltinError, During as _};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest list of propagated packages.
const MAX_PROPAGATED: u64 = 1 << 20;

/// One output of a derivation that the environment is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) path: PathBuf,
    pub(super) active: bool,
    /// The lower the number, the more important.
    pub(super) priority: i64,
}

/// Reads the attribute `derivations`.
pub(super) fn parse_packages(derivations: &[u8]) -> Result<Vec<Package>, BuiltinError> {
    let wrong = |reason: &str| invalid("derivations", derivations, reason);
    let mut words = words(derivations, b" \t\n\r");
    let mut packages = Vec::new();
    while let Some(active) = words.next() {
        let priority = words.next().and_then(number).ok_or_else(|| wrong("a priority is missing"))?;
        let outputs = words.next().and_then(number).filter(|&outputs| outputs >= 0);
        let outputs = outputs.ok_or_else(|| wrong("a number of outputs is missing"))?;
        for _ in 0..outputs {
            let output = words.next().ok_or_else(|| wrong("there are fewer paths than it says"))?;
            packages.push(Package { path: path(output), active: active != b"false", priority });
        }
    }
    Ok(packages)
}

/// The packages that this one wants to have beside itself.
pub(super) fn propagated_packages(package: &Path) -> Result<Vec<PathBuf>, BuiltinError> {
    let list = package.join("nix-support/propagated-user-env-packages");
    let file = match File::open(&list) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).during("open", &list),
    };
    let mut contents = Vec::new();
    file.take(MAX_PROPAGATED + 1).read_to_end(&mut contents).during("read", &list)?;
    if contents.len() as u64 > MAX_PROPAGATED {
        return Err(io::Error::other(format!("it is longer than {MAX_PROPAGATED} bytes")))
            .during("read", &list);
    }
    Ok(words(&contents, b" \n").map(path).collect())
}

fn words<'a>(text: &'a [u8], separators: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    text.split(|byte| separators.contains(byte)).filter(|word| !word.is_empty())
}

fn number(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse::<i32>().ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(path: &str, active: bool, priority: i64) -> Package {
        Package { path: path.into(), active, priority }
    }

    #[test]
    fn b11_derivations_are_read() {
        assert_eq!(
            parse_packages(b" true 5 2 /a /b\nfalse -3 1\t/c  \r true 0 0").unwrap(),
            [package("/a", true, 5), package("/b", true, 5), package("/c", false, -3)]
        );
        assert_eq!(parse_packages(b"").unwrap(), []);
        assert_eq!(parse_packages(b"active 1 1 /\xff").unwrap()[0].path, path(b"/\xff"));
    }

    #[test]
    fn b11_derivations_that_make_no_sense() {
        for (text, reason) in [
            ("true", "a priority is missing"),
            ("true x 1 /a", "a priority is missing"),
            ("true 99999999999 1 /a", "a priority is missing"),
            ("true 5", "a number of outputs is missing"),
            ("true 5 -1", "a number of outputs is missing"),
            ("true 5 2 /a", "there are fewer paths than it says"),
            ("true 5 2000000000 /a", "there are fewer paths than it says"),
        ] {
            let error = parse_packages(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("attribute 'derivations' is '{text}', which can't be used: {reason}"));
        }
    }
}
