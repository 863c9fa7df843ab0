//! Values of settings about the sandbox.

use serde_json::{Value, json};

use crate::value::{Kind, SettingValue, ValueError, words};

/// Whether builds are kept apart from the machine (`sandbox`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// All are.
    True,
    /// None is.
    False,
    /// All are but those that ask not to be (`__noChroot`).
    Relaxed,
}

/// What network fixed-output builds get (`fod-network`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FodNetwork {
    /// One of their own if the machine can make one, else the host's, with a warning.
    Auto,
    /// One of their own, or the build fails.
    Isolated,
    /// The host's.
    Host,
}

/// A type whose values are a few words.
macro_rules! choice {
    ($type:ident { $($word:literal => $variant:ident),* }, $expected:literal) => {
        impl SettingValue for $type {
            const KIND: Kind = Kind::Choice(&[$($word),*]);

            fn parse(text: &str) -> Result<$type, ValueError> {
                match text {
                    $($word => Ok($type::$variant),)*
                    _ => Err(ValueError::expected($expected)),
                }
            }

            fn render(&self) -> String {
                match self {
                    $($type::$variant => $word.to_owned(),)*
                }
            }

            fn to_json(&self) -> Value {
                let word = self.render();
                bool::parse(&word).map_or_else(|_| json!(word), |truth| json!(truth))
            }
        }
    };
}

choice!(SandboxMode { "true" => True, "false" => False, "relaxed" => Relaxed }, "true, false or relaxed");
choice!(FodNetwork { "auto" => Auto, "isolated" => Isolated, "host" => Host }, "auto, isolated or host");

/// A file or directory of the machine that builds see (one word of `sandbox-paths`, also a line of the pre-build hook):
/// `PATH`, `TARGET=SOURCE`, either with `?` at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SandboxPath {
    /// Where the builder sees it; absolute.
    pub target: String,
    /// Where it is on the machine; absolute.
    pub source: String,
    /// Left out if it isn't there.
    pub optional: bool,
}

impl SandboxPath {
    /// One path as it is written.
    pub fn parse(word: &str) -> Result<SandboxPath, ValueError> {
        let (path, optional) = word.strip_suffix('?').map_or((word, false), |path| (path, true));
        let (target, source) = path.split_once('=').unwrap_or((path, path));
        if !target.starts_with('/') || !source.starts_with('/') {
            return Err(ValueError(format!(
                "absolute paths, written PATH or TARGET=SOURCE, in place of '{word}'"
            )));
        }
        Ok(SandboxPath { target: target.to_owned(), source: source.to_owned(), optional })
    }

    fn render(&self) -> String {
        let mark = if self.optional { "?" } else { "" };
        // A target without '=' says its source too, unless the source has an '=' that would be taken for the separator.
        if self.target == self.source && !self.source.contains('=') {
            format!("{}{mark}", self.target)
        } else {
            format!("{}={}{mark}", self.target, self.source)
        }
    }
}

impl SettingValue for Vec<SandboxPath> {
    const KIND: Kind = Kind::Words;

    fn parse(text: &str) -> Result<Vec<SandboxPath>, ValueError> {
        words(text).map(SandboxPath::parse).collect()
    }

    fn render(&self) -> String {
        let paths: Vec<String> = self.iter().map(SandboxPath::render).collect();
        paths.join(" ")
    }

    fn to_json(&self) -> Value {
        json!(self.iter().map(SandboxPath::render).collect::<Vec<String>>())
    }

    fn add(&mut self, text: &str) -> Option<Result<(), ValueError>> {
        Some(Self::parse(text).map(|paths| self.extend(paths)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn choices_are_exact() {
        assert_eq!(SandboxMode::parse("relaxed"), Ok(SandboxMode::Relaxed));
        for text in ["yes", "1", "0", "", "Relaxed"] {
            assert!(SandboxMode::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(FodNetwork::parse("host").map(|value| value.render()), Ok("host".to_owned()));
    }

    #[test]
    fn sandbox_paths() {
        let path = |target: &str, source: &str, optional| SandboxPath {
            target: target.to_owned(),
            source: source.to_owned(),
            optional,
        };
        assert_eq!(SandboxPath::parse("/a"), Ok(path("/a", "/a", false)));
        assert_eq!(SandboxPath::parse("/a?"), Ok(path("/a", "/a", true)));
        assert_eq!(SandboxPath::parse("/bin/sh=/b=c?"), Ok(path("/bin/sh", "/b=c", true)));
        for word in ["", "?", "a", "=/a", "/a=", "/a=b", "=?"] {
            assert!(SandboxPath::parse(word).is_err(), "{word:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses(words in proptest::collection::vec("/[a-z]{0,3}(=/[a-z=?]{0,3})?[?]?", 0..5)) {
            let paths = Vec::<SandboxPath>::parse(&words.join(" ")).unwrap();
            prop_assert_eq!(Vec::<SandboxPath>::parse(&paths.render()).unwrap(), paths);
        }
    }
}
