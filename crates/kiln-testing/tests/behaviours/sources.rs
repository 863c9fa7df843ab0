//! The tests of the workspace that name behaviours, as far as plain text shows them.

use std::path::{Path, PathBuf};

use crate::list::GROUPS;

/// A test that names behaviours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// Its file, from the root of the workspace on.
    pub(crate) file: String,
    /// Its function.
    pub(crate) name: String,
    /// What it names, in lower case: `s12`.
    pub(crate) ids: Vec<String>,
}

impl Test {
    /// Whether it names this behaviour.
    pub(crate) fn proves(&self, id: &str) -> bool {
        self.ids.iter().any(|named| named.eq_ignore_ascii_case(id))
    }
}

/// All such tests of the crates of a workspace, by file and place.
pub(crate) fn tests(workspace: &Path) -> Vec<Test> {
    let mut tests = Vec::new();
    for path in rust_files(&workspace.join("crates")) {
        // A file may have gone since its directory was listed.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let file = path.strip_prefix(workspace).expect("a file of the workspace").display().to_string();
        for name in test_names(&text) {
            let ids = ids(name);
            if !ids.is_empty() {
                tests.push(Test { file: file.clone(), name: name.to_owned(), ids });
            }
        }
    }
    tests
}

/// The Rust files below a directory, sorted, without those that Cargo made.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() != "target" {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The names of the functions that follow a test's attribute, without those that are not run.
fn test_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let mut line = line.trim_start();
        if ["#[test]", "#[tokio::test"].iter().any(|attribute| line.starts_with(attribute)) {
            is_test = true;
            line = line.split_once(']').map_or("", |(_, rest)| rest.trim_start());
        }
        if line.starts_with("#[ignore") {
            is_test = false;
        }
        if is_test && let Some(name) = function_name(line) {
            names.push(name);
            is_test = false;
        }
    }
    names
}

/// The name of the function that a line declares.
fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    line.split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// The behaviours that a test's name begins with.
fn ids(name: &str) -> Vec<String> {
    let parts = name.split('_').take_while(|part| {
        let mut characters = part.chars();
        let letter = characters.next().map(|letter| letter.to_ascii_uppercase());
        let digits = characters.as_str();
        GROUPS.iter().any(|group| Some(group.letter) == letter)
            && !digits.is_empty()
            && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    parts.map(str::to_owned).collect()
}

#[test]
fn tests_are_found_by_their_attribute() {
    let text = "#[test]\nfn s1_one() {}\nfn s2_no_test() {}\n  #[tokio::test(flavor = \"x\")]\n  #[expect(\n    \
        unused,\n  )]\n  // fn said\n  async fn two<T>() {}\n#[test] fn d1_d2_three(x in 0..3) {}\n#[test]\n\
        #[ignore = \"slow\"]\nfn s3_ignored() {}\n";
    assert_eq!(test_names(text), ["s1_one", "two", "d1_d2_three"]);
}

#[test]
fn names_begin_with_behaviours() {
    assert_eq!(ids("s12_an_interrupt"), ["s12"]);
    assert_eq!(ids("s7_d19_limits"), ["s7", "d19"]);
    assert_eq!(ids("s7_limits_s8"), ["s7"]);
    for name in ["s_x", "sha1_x", "i686_x", "s1a_x", "x", "_s1"] {
        assert_eq!(ids(name), [""; 0], "{name}");
    }
}
