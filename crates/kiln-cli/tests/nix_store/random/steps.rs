//! What both make of the steps of a description.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kiln_testing::StoreContents;

use super::description::{Arguments, Description, Effect, Kind, Object, State, Step};
use super::making::Made;
use crate::both::{Both, Outcome, Whose};

/// Makes a store and has both run all steps; how they differ, if they do.
pub(crate) fn compare(both: &Both, description: &Description) -> Result<(), String> {
    both.store.clear();
    fs::remove_dir_all(both.work()).unwrap();
    fs::create_dir(both.work()).unwrap();
    let made = Made::make(both, description)?;
    let is_missing = |object: &Object| object.state == State::Missing;
    for step in &description.steps {
        // Real Nix collects what it finds in the store directory; to Kiln what is valid and not there is garbage too.
        let collects = step.line.starts_with("--gc") && !step.line.starts_with("--gc --print-roots");
        if collects && description.objects.values().any(is_missing) {
            continue;
        }
        let mut line = step.line.clone();
        if let Arguments::Objects(numbers) = &step.arguments {
            let mut paths: Vec<&str> = numbers.iter().filter_map(|number| made.path(*number)).collect();
            if step.line.starts_with("--delete") {
                retain_known(both, &mut paths);
            }
            if paths.is_empty() {
                continue;
            }
            if step.effect != Effect::Imports {
                line += &format!(" {}", paths.join(" "));
            }
        }
        let run = Run { both, description, made: &made, step, line };
        run.compare().map_err(|difference| format!("{}\n{difference}", run.line))?;
    }
    Ok(())
}

/// Leaves out what there is not in the store: real Nix says that it has deleted that.
fn retain_known(both: &Both, paths: &mut Vec<&str>) {
    let rows = both.store.contents().rows;
    let is_valid = |path: &str| rows.iter().any(|row| row.starts_with(&format!("ValidPaths|{path}|")));
    paths.retain(|path| fs::symlink_metadata(path).is_ok() || is_valid(path));
}

/// A step of a store.
struct Run<'a> {
    both: &'a Both,
    description: &'a Description,
    made: &'a Made<'a>,
    step: &'a Step,
    line: String,
}

/// All that is left of a store by a step.
#[derive(PartialEq, Eq)]
struct Left {
    contents: StoreContents,
    hard_links: BTreeSet<BTreeSet<String>>,
    /// Links to what is to be kept, and where they lead; files of temporary roots of living processes.
    roots: BTreeMap<String, String>,
}

impl Run<'_> {
    fn compare(&self) -> Result<(), String> {
        let input = match self.step.effect {
            Effect::None => {
                let (mut by_nix, mut by_kiln) = (self.run(Whose::Nix, b""), self.run(Whose::Kiln, b""));
                let is_whole = self.line.starts_with("-q --graph") || self.line.starts_with("--export");
                if is_whole && by_nix.code == Some(1) {
                    // What was printed before the failure is neither a graph nor an export.
                    by_nix.stdout.clear();
                    by_kiln.stdout.clear();
                }
                if self.line.starts_with("-q --roots") {
                    // In any order.
                    by_nix.stdout = sorted(&by_nix.stdout);
                    by_kiln.stdout = sorted(&by_kiln.stdout);
                }
                return same(&by_nix, &by_kiln, self.is_told_alike());
            }
            Effect::OnlyByNix => {
                let before = self.left();
                let by_kiln = self.run(Whose::Kiln, b"");
                same_left(&before, &self.left())?;
                let mut by_nix = self.run(Whose::Nix, b"");
                if self.line.contains("--print-live") {
                    self.forget_what_is_not_valid(&mut by_nix);
                }
                return same(&by_nix, &by_kiln, false);
            }
            Effect::Changes => Vec::new(),
            Effect::Loads => {
                let text = self.both.run(Whose::Nix, "--dump-db").stdout.into_bytes();
                fs::remove_dir_all(self.both.store.nix().state_dir().join("db")).unwrap();
                text
            }
            Effect::Imports => {
                let Arguments::Objects(numbers) = &self.step.arguments else { return Ok(()) };
                let paths: Vec<&str> = numbers.iter().filter_map(|number| self.made.path(*number)).collect();
                let closure = self.both.run(Whose::Nix, &format!("-q -R {}", paths.join(" "))).stdout;
                let words = ["--export"].into_iter().chain(closure.lines());
                let stream = self.both.store.nix().output("nix-store", words).stdout;
                self.run_line(Whose::Nix, "--gc", b"");
                stream
            }
        };
        self.both.store.save();
        let (first, last) = match self.step.goes_on_with {
            Whose::Nix => (Whose::Kiln, Whose::Nix),
            Whose::Kiln => (Whose::Nix, Whose::Kiln),
        };
        let before = self.line.starts_with("--delete").then(|| self.left());
        let by_first = (self.run(first, &input), self.left());
        self.both.store.go_back();
        let by_last = (self.run(last, &input), self.left());
        let (by_nix, by_kiln) = if last == Whose::Kiln { (by_first, by_last) } else { (by_last, by_first) };
        let has_failed = by_nix.0.code == Some(1) && by_kiln.0.code == Some(1);
        if let Some(before) = before.filter(|_| has_failed) {
            // Real Nix has deleted what comes before the path that is alive.
            let stale_roots_are_gone = Left { roots: by_kiln.1.roots.clone(), ..before };
            return same_left(&stale_roots_are_gone, &by_kiln.1);
        }
        if self.line.starts_with("--verify") && by_nix.0.stderr.contains("constraint failed") {
            return only_gone_forgotten(&by_nix.1.contents, &by_kiln.1.contents);
        }
        if self.line == "--optimise" && has_failed {
            // Something is missing. Kiln goes on with what is there.
            return Ok(());
        }
        same(&by_nix.0, &by_kiln.0, self.is_told_alike())?;
        if self.step.effect == Effect::Imports && has_failed {
            // Real Nix leaves files without an owner.
            let (by_nix, by_kiln) = (&by_nix.1.contents.rows, &by_kiln.1.contents.rows);
            return if by_nix == by_kiln { Ok(()) } else { Err(format!("{by_nix:?}\n{by_kiln:?}")) };
        }
        same_left(&by_nix.1, &by_kiln.1)
            .map_err(|difference| format!("{difference}\n{}", told(&by_nix.0, &by_kiln.0)))
    }

    /// Whether what is told is the same too, in the same words.
    fn is_told_alike(&self) -> bool {
        // Each has its own words for a derivation that cannot be read, and real Nix verifies nothing after what is missing.
        let is_question = self.line.starts_with("-q ") && !self.line.starts_with("-q --roots");
        let is_verification = self.line.starts_with("--verify-path");
        let has_own_words = |object: &Object| match object.state {
            State::Damaged => matches!(object.kind, Kind::Derivation { .. }),
            State::Missing => is_verification || matches!(object.kind, Kind::Derivation { .. }),
            _ => false,
        };
        (is_question || is_verification) && !self.description.objects.values().any(has_own_words)
    }

    /// By what real Nix says, what it has just deleted because it has no store path is alive; and what a process is making, which
    /// Kiln keeps too, but does not tell of.
    fn forget_what_is_not_valid(&self, by_nix: &mut Outcome) {
        let store_dir = self.both.store.nix().store_dir();
        let leftovers = self.description.leftovers.iter().map(|leftover| store_dir.join(leftover.name));
        let leftovers = leftovers.map(|path| path.display().to_string());
        let objects = self.description.objects.iter();
        // What has been added is valid.
        let unregistered =
            objects.filter(|(_, object)| object.state == State::Unregistered && object.kind != Kind::Added);
        let unregistered = unregistered.filter_map(|(number, _)| self.made.path(*number).map(str::to_owned));
        let paths: BTreeSet<String> = leftovers.chain(unregistered).collect();
        let alive = by_nix.stdout.lines().filter(|line| !paths.contains(*line));
        by_nix.stdout = alive.flat_map(|line| [line, "\n"]).collect();
    }

    fn run(&self, whose: Whose, input: &[u8]) -> Outcome {
        self.run_line(whose, &self.line, input)
    }

    fn run_line(&self, whose: Whose, line: &str, input: &[u8]) -> Outcome {
        let _held = self.made.hold_roots(self.description);
        self.both.run_reading(whose, line, input)
    }

    fn left(&self) -> Left {
        let store = &self.both.store;
        let state = store.nix().state_dir();
        let held = self.made.held(self.description).filter(|path| path.exists());
        let mut roots: BTreeMap<_, _> =
            held.map(|path| (path.display().to_string(), "a process's".to_owned())).collect();
        let mut open = vec![state.join("gcroots"), state.join("profiles")];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    open.push(path);
                } else {
                    let target = fs::read_link(&path).unwrap_or_default();
                    roots.insert(path.display().to_string(), target.display().to_string());
                }
            }
        }
        Left { contents: store.contents(), hard_links: store.hard_links(), roots }
    }
}

/// Real Nix gives up when it forgets what is gone while something refers to it that is gone, too, but needed. Kiln forgets all
/// that is gone and not needed, and nothing else.
fn only_gone_forgotten(by_nix: &StoreContents, by_kiln: &StoreContents) -> Result<(), String> {
    let missing = |rows: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|row| !rows.contains(row)).cloned().collect()
    };
    let is_gone = |row: &String| {
        let path = row.strip_prefix("ValidPaths|").and_then(|row| row.split('|').next());
        path.is_none_or(|path| fs::symlink_metadata(path).is_err())
    };
    let mut wrong = missing(&by_nix.rows, &by_kiln.rows);
    wrong.extend(missing(&by_kiln.rows, &by_nix.rows).into_iter().filter(|row| !is_gone(row)));
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
}

fn sorted(lines: &str) -> String {
    let lines: BTreeSet<&str> = lines.lines().collect();
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

fn same(by_nix: &Outcome, by_kiln: &Outcome, is_told_alike: bool) -> Result<(), String> {
    let is_same = (by_nix.code, &by_nix.stdout) == (by_kiln.code, &by_kiln.stdout);
    if is_same && (!is_told_alike || by_nix.stderr == by_kiln.stderr) {
        return Ok(());
    }
    Err(told(by_nix, by_kiln))
}

fn told(by_nix: &Outcome, by_kiln: &Outcome) -> String {
    let one = |name: &str, outcome: &Outcome| {
        format!("by {name}: {:?}\n{}--- and told:\n{}", outcome.code, outcome.stdout, outcome.stderr)
    };
    format!("{}{}", one("Nix", by_nix), one("Kiln", by_kiln))
}

/// What one has left and the other has not.
fn same_left(by_nix: &Left, by_kiln: &Left) -> Result<(), String> {
    let lines = |left: &Left| -> BTreeSet<String> {
        let rows = left.contents.rows.iter().map(|row| format!("row {row}"));
        let files = left.contents.files.iter().map(|(name, what)| format!("file {name}: {what}"));
        let locks = left.contents.locks.iter().map(|name| format!("lock {name}"));
        let links = left.hard_links.iter().map(|names| format!("same files {names:?}"));
        let roots = left.roots.iter().map(|(name, target)| format!("root {name} -> {target}"));
        rows.chain(files).chain(locks).chain(links).chain(roots).collect()
    };
    let (by_nix, by_kiln) = (lines(by_nix), lines(by_kiln));
    if by_nix == by_kiln {
        return Ok(());
    }
    let only = |name: &str, a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).map(|line| format!("only by {name}: {line}\n")).collect::<String>()
    };
    Err(only("Nix", &by_nix, &by_kiln) + &only("Kiln", &by_kiln, &by_nix))
}
