//! How long builds have taken, by the names of their derivations without versions, for estimates.
//!
//! They are kept in `build-durations` in the store's state directory: a line for each name and system, with milliseconds, the
//! one that was used last at the end. Nothing depends on it but what is built first; whatever is wrong with the file is ignored.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_derivation::Derivation;

/// Most lines that are kept.
const LINES: usize = 8192;

/// Most bytes that are read.
const LARGEST_FILE: u64 = 1 << 20;

/// What a build takes of which nothing is known: so that where nothing is known of any, the longest chain goes first.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Differences below this are noise.
const STEP: Duration = Duration::from_millis(100);

/// The durations that are known of a store's builds.
#[derive(Debug)]
pub(crate) struct Durations {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_read: bool,
    known: HashMap<Key, Duration>,
    /// Those that the file does not have yet.
    new: Vec<Key>,
}

/// Name without version, and system.
type Key = (String, String);

impl Durations {
    pub(crate) fn in_directory(state_dir: &Path) -> Self {
        Self { file: state_dir.join("build-durations"), state: Mutex::default() }
    }

    /// What a build takes, as far as that is known. Reads the file the first time.
    pub(crate) fn estimate(&self, derivation: &Derivation) -> Duration {
        let Some(key) = key(derivation) else { return UNKNOWN };
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_read, true) {
            state.known.extend(read(&self.file));
        }
        state.known.get(&key).copied().unwrap_or(UNKNOWN)
    }

    /// Takes note of what a build took. Of several the mean counts, the last ones most.
    pub(crate) fn record(&self, derivation: &Derivation, took: Duration) {
        let Some(key) = key(derivation) else { return };
        let mut state = self.lock();
        let old = state.known.get(&key).copied();
        let new = round(old.map_or(took, |old| (old + took) / 2));
        if old != Some(new) {
            state.known.insert(key.clone(), new);
            state.new.push(key);
        }
    }

    /// Writes what is new into the file. Blocks.
    pub(crate) fn save(&self) {
        let new: Vec<(Key, Duration)> = {
            let mut state = self.lock();
            let keys = std::mem::take(&mut state.new);
            keys.into_iter()
                .filter_map(|key| state.known.get(&key).map(|took| (key.clone(), *took)))
                .collect()
        };
        if new.is_empty() {
            return;
        }
        // Others may have added something.
        let mut lines = read(&self.file);
        let mut seen = HashMap::new();
        lines.extend(new);
        lines.reverse();
        lines.retain(|(key, _)| seen.insert(key.clone(), ()).is_none());
        lines.truncate(LINES);
        let print =
            |((name, system), took): &(Key, Duration)| format!("{} {name} {system}\n", took.as_millis());
        let text: String = lines.iter().rev().map(print).collect();
        let mut state = self.lock();
        if state.known.len() > 2 * LINES {
            state.known = lines.iter().cloned().collect();
        }
        drop(state);
        let scratch = self.file.with_extension(format!("tmp-{}", std::process::id()));
        // Whoever may not write here has no estimates.
        if fs::write(&scratch, text).and_then(|()| fs::rename(&scratch, &self.file)).is_err() {
            let _ = fs::remove_file(&scratch);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Estimates are estimates.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What builds are told apart by, unless it can't be in a line.
fn key(derivation: &Derivation) -> Option<Key> {
    let system = std::str::from_utf8(&derivation.system).ok()?;
    let is_plain = (1..=64).contains(&system.len()) && system.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| (without_version(derivation.name.as_str()).to_owned(), system.to_owned()))
}

/// A name up to the dash that a version follows, as Nix sees it: one that does not begin with a letter.
fn without_version(name: &str) -> &str {
    let is_version = |rest: &str| rest.starts_with(|first: char| !first.is_ascii_alphabetic());
    let dash = name.match_indices('-').find(|(at, _)| name.get(at + 1..).is_some_and(is_version));
    dash.and_then(|(at, _)| name.get(..at)).unwrap_or(name)
}

fn round(duration: Duration) -> Duration {
    let steps = (duration + STEP / 2).as_millis() / STEP.as_millis();
    STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

fn read(file: &Path) -> Vec<(Key, Duration)> {
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut text));
    let lines = read.map(|_| text.split(|byte| *byte == b'\n')).into_iter().flatten();
    lines.filter_map(|line| parse(std::str::from_utf8(line).ok()?)).collect()
}

fn parse(line: &str) -> Option<(Key, Duration)> {
    let mut words = line.split(' ');
    let (milliseconds, name, system) = (words.next()?, words.next()?, words.next()?);
    let duration = Duration::from_millis(u64::from(milliseconds.parse::<u32>().ok()?));
    words.next().is_none().then(|| ((name.to_owned(), system.to_owned()), duration))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn s3_names_are_cut_where_the_version_begins() {
        for (name, expected) in [
            ("hello-2.12", "hello"),
            ("python3.10-requests-2.28.1", "python3.10-requests"),
            ("gcc-wrapper-12.2.0-lib", "gcc-wrapper"),
            ("stdenv-linux", "stdenv-linux"),
            ("source", "source"),
            ("a-", "a-"),
            ("x--1", "x"),
        ] {
            assert_eq!(without_version(name), expected, "{name}");
        }
    }

    fn derivation(name: &str, system: &str) -> Derivation {
        Derivation {
            name: name.parse().unwrap(),
            outputs: BTreeMap::new(),
            input_derivations: BTreeMap::new(),
            input_sources: BTreeSet::new(),
            system: system.into(),
            builder: Vec::new(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            structured_attrs: None,
        }
    }

    #[test]
    fn s3_durations_are_remembered_across_processes() {
        let scratch = tempfile::tempdir().unwrap();
        let seconds = Duration::from_secs;
        let first = Durations::in_directory(scratch.path());
        assert_eq!(first.estimate(&derivation("a-1", "x")), UNKNOWN);
        first.record(&derivation("a-1", "x"), seconds(4));
        first.record(&derivation("a-2", "x"), seconds(2));
        first.record(&derivation("b", "x"), Duration::from_millis(3));
        first.record(&derivation("b", "x y\n"), seconds(9));
        first.save();
        first.save();
        let second = Durations::in_directory(scratch.path());
        assert_eq!(second.estimate(&derivation("a-3", "x")), seconds(3));
        assert_eq!(second.estimate(&derivation("a-3", "y")), UNKNOWN);
        assert_eq!(second.estimate(&derivation("b", "x")), Duration::ZERO);
        second.record(&derivation("c", "x"), seconds(7));
        first.record(&derivation("d", "x"), seconds(8));
        second.save();
        first.save();
        let text = fs::read_to_string(scratch.path().join("build-durations")).unwrap();
        assert_eq!(text, "3000 a x\n0 b x\n7000 c x\n8000 d x\n");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn s3_not_more_is_remembered_than_the_file_may_have_twice() {
        let scratch = tempfile::tempdir().unwrap();
        let durations = Durations::in_directory(scratch.path());
        for number in 0..3 * LINES {
            durations.record(&derivation(&format!("n{number}"), "x"), Duration::from_secs(5));
        }
        durations.save();
        assert_eq!(durations.lock().known.len(), LINES);
        let last = format!("n{}", 3 * LINES - 1);
        for name in [last.as_str(), "n0"] {
            let expected = if name == "n0" { UNKNOWN } else { Duration::from_secs(5) };
            assert_eq!(durations.estimate(&derivation(name, "x")), expected, "{name}");
        }
    }

    #[test]
    fn s3_a_damaged_file_is_ignored_where_it_is_damaged() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("build-durations");
        fs::write(&file, b"x\n\xff 1 2\n1 a\n-1 a x\n1 a x y\n500 a x\n99999999999 b x\n2000 b").unwrap();
        assert_eq!(read(&file), [(("a".to_owned(), "x".to_owned()), Duration::from_millis(500))]);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let durations = Durations::in_directory(scratch.path());
        durations.record(&derivation("a", "x"), Duration::from_secs(1));
        durations.save();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left of the attempt");
    }
}
