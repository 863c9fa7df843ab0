//! Which files of a directory are left out when it is added to the store: patterns as in `.gitignore`.
//!
//! * A pattern without a slash is matched with the file name alone, in every directory: `*.o`.
//! * A pattern with a slash at its beginning or in its middle is matched with the whole path below the source's root:
//!   `/build`, `doc/*.html`.
//! * A slash at the end makes the pattern match directories only: `target/`.
//! * `*` is any text without a slash, `?` any character but a slash, `[abc]`, `[a-z]` and `[!abc]` one character of a set
//!   (or outside of it), `**` as a whole component any number of directories; `\` makes the character after it stand
//!   for itself.
//! * `!` before a pattern takes back what an earlier one left out. The last pattern that matches decides.
//!
//! What is below a directory that is left out is left out too, whatever other patterns say: it is not looked at.
//! Characters are bytes, as file names are.

mod glob;

pub use glob::InvalidPattern;
use glob::{Glob, GlobComponent};

/// Patterns of files to leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    excludes: bool,
    directories_only: bool,
    /// Whether the pattern is matched with the whole path, not just with the file name.
    anchored: bool,
    glob: Glob,
}

impl Filter {
    /// Reads patterns, in order.
    ///
    /// # Errors
    /// The first pattern that is none: its index, and what is wrong with it.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, (usize, InvalidPattern)> {
        let rules = patterns
            .into_iter()
            .enumerate()
            .map(|(index, pattern)| Rule::parse(pattern.as_bytes()).map_err(|error| (index, error)));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a file or directory is left out.
    ///
    /// `path` is the path below the source's root, with single slashes and none at the ends. A directory that is left
    /// out is not entered, so that this need not be asked about what is in it. The root itself is never left out.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = components.last().map(std::slice::from_ref).unwrap_or_default();
        let decisive = self.rules.iter().rev().find(|rule| {
            let subject = if rule.anchored { components.as_slice() } else { name };
            (is_directory || !rule.directories_only) && rule.glob.matches(subject)
        });
        !path.is_empty() && decisive.is_some_and(|rule| rule.excludes)
    }
}

impl Rule {
    fn parse(pattern: &[u8]) -> Result<Self, InvalidPattern> {
        let (excludes, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (false, rest),
            None => (true, pattern),
        };
        let (directories_only, pattern) = match pattern.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let anchored = pattern.contains(&b'/');
        let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
        let glob = Glob::parse(pattern)?;
        // `**` alone is `*`: it matches every name.
        let anchored = anchored && glob.components() != [GlobComponent::AnyDirectories];
        Ok(Self { excludes, directories_only, anchored, glob })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn excluded(patterns: &[&str], path: &str) -> bool {
        let filter = Filter::new(patterns.iter().copied()).unwrap();
        match path.strip_suffix('/') {
            Some(directory) => filter.excludes(directory.as_bytes(), true),
            None => filter.excludes(path.as_bytes(), false),
        }
    }

    #[test]
    fn names_match_anywhere_and_paths_from_the_root() {
        for (pattern, yes, no) in [
            ("*.o", &["a.o", ".o", "x/y/a.o", "d.o/"][..], &["a.c", "a.o/b", "a.oo"][..]),
            ("target/", &["target/", "a/target/"], &["target", "a/target"]),
            ("/build", &["build", "build/"], &["a/build", "build2"]),
            ("/build/", &["build/"], &["build", "a/build/"]),
            ("doc/*.html", &["doc/a.html"], &["a.html", "x/doc/a.html", "doc/x/a.html"]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "x/a"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ba"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a", "ab", "a/bb", "a/b/c"]),
            ("**", &["a", "a/b", "a/"], &[]),
            ("/**", &["a", "a/b"], &[]),
            ("a?c", &["abc", "x/a-c"], &["ac", "abbc"]),
            ("[a-cx]1", &["a1", "b1", "x1"], &["d1", "-1", "[1"]),
            ("[!a-c]1", &["d1", "-1"], &["a1", "1"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("\\*", &["*"], &["a"]),
            ("\\!a", &["!a"], &["a"]),
            ("[\\]]", &["]"], &["\\"]),
            ("é?", &["éa", "é\u{7f}"], &["é"]),
        ] {
            for path in yes {
                assert!(excluded(&[pattern], path), "{pattern} leaves out {path}");
            }
            for path in no {
                assert!(!excluded(&[pattern], path), "{pattern} keeps {path}");
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        let patterns = ["*.txt", "!keep.txt", "/old/keep.txt"];
        assert!(excluded(&patterns, "a.txt"));
        assert!(!excluded(&patterns, "keep.txt"));
        assert!(!excluded(&patterns, "x/keep.txt"));
        assert!(excluded(&patterns, "old/keep.txt"));
    }

    #[test]
    fn the_root_stays() {
        assert!(!Filter::new(["*", "**"]).unwrap().excludes(b"", true));
        assert!(!Filter::default().excludes(b"a", false));
    }

    #[test]
    fn refuses_broken_patterns() {
        for (pattern, error) in [
            ("", InvalidPattern::Empty),
            ("!", InvalidPattern::Empty),
            ("/", InvalidPattern::Empty),
            ("a//b", InvalidPattern::EmptyComponent),
            ("a//", InvalidPattern::EmptyComponent),
            ("//a", InvalidPattern::EmptyComponent),
            ("./a", InvalidPattern::DotComponent),
            ("a/..", InvalidPattern::DotComponent),
            ("[a", InvalidPattern::UnclosedSet),
            ("[", InvalidPattern::UnclosedSet),
            ("[]", InvalidPattern::UnclosedSet),
            ("[!]", InvalidPattern::UnclosedSet),
            ("[z-a]", InvalidPattern::BackwardRange),
            ("a\\", InvalidPattern::TrailingBackslash),
        ] {
            assert_eq!(Filter::new(["ok", pattern]), Err((1, error)), "{pattern}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_their_product() {
        let pattern = "*a".repeat(2_000);
        assert!(!excluded(&[&pattern], &"a".repeat(1_999)));
        let components = "**/a/".repeat(1_000) + "b";
        assert!(!excluded(&[&components], &"a/".repeat(2_000)));
    }

    proptest! {
        /// A simple definition of matching, exponential, that short patterns are compared with.
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{1,7}", name in "[abc]{0,7}") {
            fn matches(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern, name) {
                    ([], []) => true,
                    ([b'*', pattern @ ..], _) if matches(pattern, name) => true,
                    ([b'*', ..], [_, name @ ..]) => matches(pattern, name),
                    ([b'?', pattern @ ..], [_, name @ ..]) => matches(pattern, name),
                    ([one, pattern @ ..], [other, name @ ..]) => one == other && matches(pattern, name),
                    _ => false,
                }
            }
            prop_assume!(!name.is_empty());
            prop_assert_eq!(excluded(&[&pattern], &name), matches(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn directories_agree_with_the_definition(
            pattern in proptest::collection::vec("[ab]|\\*\\*|\\*", 2..6),
            path in proptest::collection::vec("[ab]", 1..6),
        ) {
            fn matches(pattern: &[String], path: &[String]) -> bool {
                match (pattern, path) {
                    ([], []) => true,
                    // At the end, `**` is what is in the directory, not the directory itself.
                    ([last], _) if last == "**" => !path.is_empty(),
                    ([any, pattern @ ..], _) if any == "**" && matches(pattern, path) => true,
                    ([any, ..], [_, path @ ..]) if any == "**" => matches(pattern, path),
                    ([one, pattern @ ..], [other, path @ ..]) => (one == "*" || one == other) && matches(pattern, path),
                    _ => false,
                }
            }
            prop_assert_eq!(excluded(&[&pattern.join("/")], &path.join("/")), matches(&pattern, &path));
        }

        #[test]
        fn any_pattern_is_read_or_refused(pattern in "[\\[\\]!*?/\\\\a-]{0,12}|.{0,12}", path in ".{0,20}") {
            if let Ok(filter) = Filter::new([pattern.as_str()]) {
                filter.excludes(path.as_bytes(), path.len() % 2 == 0);
            }
        }
    }
}
