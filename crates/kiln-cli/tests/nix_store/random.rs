//! Stores with random references, which the same questions are asked about.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use kiln_testing::RandomNumbers;

use crate::both::{Both, Outcome, Whose};

/// Digits that digests are made of.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Puts paths into an empty store, each of which refers to some earlier ones and perhaps to itself; registered by real Nix.
fn fill(both: &Both, numbers: &mut RandomNumbers, count: usize) -> Vec<String> {
    let store = both.store.nix().store_dir();
    let mut paths: Vec<String> = Vec::new();
    let mut text = String::new();
    for index in 0..count {
        let digest: String = (0..32).map(|_| char::from(DIGITS[numbers.below(32)])).collect();
        let name = ["a", "b-lib", "c-1.2", "tool-bin-x"][numbers.below(4)];
        let path = format!("{}/{digest}-{name}{index}", store.display());
        fs::write(&path, vec![b'x'; numbers.below(5000)]).unwrap();
        let mut references = BTreeSet::new();
        for _ in 0..numbers.below(5).min(index) {
            references.insert(paths[numbers.below(index)].clone());
        }
        if numbers.below(4) == 0 {
            references.insert(path.clone());
        }
        text += &format!("{path}\n\n{}\n", references.len());
        references.iter().for_each(|reference| text += &format!("{reference}\n"));
        paths.push(path);
    }
    let outcome = both.run_reading(Whose::Nix, "--register-validity", text.as_bytes());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    paths
}

#[test]
fn random_stores() {
    for seed in [1, 2] {
        let Some(mut both) = Both::empty() else { return };
        let numbers = &mut RandomNumbers::new(seed);
        let paths = fill(&both, numbers, 60);
        for number in 0..3 {
            let path = &paths[numbers.below(paths.len())];
            both.run(Whose::Nix, &format!("-r {path} --add-root root{number}"));
        }
        both.same("--dump-db");
        for line in
            ["--gc --print-roots", "--gc --print-live", "--gc --print-dead", "--verify --check-contents"]
        {
            both.same(line);
        }
        for question in [
            "-R",
            "--references",
            "--referrers",
            "--referrers-closure",
            "--tree",
            "--graph",
            "--graphml",
            "--hash --size",
        ] {
            for _ in 0..3 {
                let some: Vec<&str> =
                    (0..=numbers.below(4)).map(|_| &*paths[numbers.below(paths.len())]).collect();
                both.same_wholly(&format!("-q {question} {}", some.join(" ")));
            }
        }
        // A closure goes out and comes back.
        let closure = both.kiln(&format!("-qR {} {}", paths[59], paths[40])).replace('\n', " ");
        both.same(&format!("--export {closure}"));
        let words: Vec<&str> =
            ["--export"].into_iter().chain(closure.split(' ').filter(|word| !word.is_empty())).collect();
        let stream = both.store.nix().output("nix-store", words).stdout;
        both.name("some", paths[numbers.below(paths.len())].clone());
        both.same_change("--delete $some", b"");
        both.same_change("--gc", b"");
        both.same_change("--import", &stream);
        both.store.verify();
    }
}

/// Makes a random tree, most of whose files are in others too, with all that counts when files are linked.
fn tree(root: &Path, numbers: &mut RandomNumbers) {
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        fs::create_dir(&directory).unwrap();
        for index in 0..numbers.below(7) {
            let path = directory.join(format!("{index}"));
            match numbers.below(8) {
                0 if depth < 3 => open.push((path, depth + 1)),
                1 => symlink(format!("target{}", numbers.below(3)), &path).unwrap(),
                // The same size, and another content.
                kind => {
                    let text = ["", "a", "b", "a longer one", "another one!"][numbers.below(5)];
                    fs::write(&path, text).unwrap();
                    let mode = if kind == 2 { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
        }
    }
}

/// Adds some of these trees.
fn add(both: &Both, names: std::ops::Range<usize>, numbers: &mut RandomNumbers) {
    for index in names {
        let name = format!("tree{index}");
        tree(&both.work().join(&name), numbers);
        let outcome = both.run(Whose::Nix, &format!("--add {name}"));
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }
}

/// Whoever optimises: the same files are one, by the same names in the pool, and as much is told to be saved.
#[test]
fn random_stores_are_optimised_alike() {
    for seed in [3, 4, 5] {
        let Some(both) = Both::empty() else { return };
        let numbers = &mut RandomNumbers::new(seed);
        let pool = both.store.nix().store_dir().join(".links");
        add(&both, 0..6, numbers);
        for (first, second) in [(6, 10), (10, 14)] {
            both.store.save();
            let by_nix = both.run(Whose::Nix, "--optimise");
            let linked_by_nix = both.store.hard_links();
            let made_by_nix = both.store.contents();
            both.store.go_back();
            let by_kiln = both.run(Whose::Kiln, "--optimise");
            assert_eq!(both.store.hard_links(), linked_by_nix, "seed {seed}: {}", by_nix.stderr);
            assert_eq!(both.store.contents(), made_by_nix);
            // Bytes and files, which are told last.
            let last = |outcome: &Outcome| outcome.stderr.lines().last().unwrap_or_default().to_owned();
            assert_eq!((by_kiln.code, last(&by_kiln)), (by_nix.code, last(&by_nix)));
            assert!(linked_by_nix.iter().any(|names| names.len() > 4), "{linked_by_nix:?}");
            // More comes in beside what is linked already, and an entry of the pool is damaged in a way that its size shows.
            add(&both, first..second, numbers);
            let entry = fs::read_dir(&pool)
                .unwrap()
                .map(Result::unwrap)
                .find(|entry| entry.file_type().unwrap().is_file());
            let entry = entry.unwrap().path();
            let copy = fs::read(&entry).unwrap();
            fs::remove_file(&entry).unwrap();
            fs::write(&entry, [&copy[..], b"damage"].concat()).unwrap();
            fs::set_permissions(&entry, fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
}
