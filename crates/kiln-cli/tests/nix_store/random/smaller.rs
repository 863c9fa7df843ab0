//! Smaller descriptions than one that fails.
//!
//! A strategy can make its value smaller itself, but part by part, each to its end before the next one: that takes hundreds of
//! stores. Here most of it goes at once where it can.

use std::collections::BTreeSet;

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::description::{Arguments, Description, Kind, Object, Root, State, Tree};
use crate::both::Whose;

/// The descriptions of another strategy, made smaller in this way.
#[derive(Debug)]
pub(crate) struct Shrinking<S>(pub(crate) S);

impl<S: Strategy<Value = Description>> Strategy for Shrinking<S> {
    type Tree = Shrunk;
    type Value = Description;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let failing = self.0.new_tree(runner)?.current();
        Ok(Shrunk { current: failing.clone(), failing, untried: None })
    }
}

/// A description, and what to try next if it fails.
#[derive(Debug)]
pub(crate) struct Shrunk {
    current: Description,
    /// The smallest one that failed.
    failing: Description,
    /// Smaller ones than that, the best of them last; `None` before it is known that it fails.
    untried: Option<Vec<Description>>,
}

impl ValueTree for Shrunk {
    type Value = Description;

    fn current(&self) -> Description {
        self.current.clone()
    }

    fn simplify(&mut self) -> bool {
        self.failing = self.current.clone();
        let mut smaller = smaller(&self.failing);
        smaller.reverse();
        self.untried = Some(smaller);
        self.complicate()
    }

    fn complicate(&mut self) -> bool {
        match self.untried.as_mut().and_then(Vec::pop) {
            Some(next) => {
                self.current = next;
                true
            }
            None => {
                self.current = self.failing.clone();
                false
            }
        }
    }
}

/// Descriptions with less in them, the least first.
fn smaller(whole: &Description) -> Vec<Description> {
    let mut all = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Description)| {
        let mut description = whole.clone();
        change(&mut description);
        if description != *whole {
            all.push(description);
        }
    };
    // What comes after the first failure does not matter, and what comes before seldom does.
    for length in halves(whole.steps.len()) {
        for start in (0..whole.steps.len()).step_by(length) {
            offer(&|it| remove(&mut it.steps, start, length));
        }
    }
    let numbers: Vec<usize> = whole.objects.keys().copied().collect();
    for length in halves(numbers.len()) {
        for some in numbers.chunks(length) {
            offer(&|it| it.objects.retain(|number, _| !some.contains(number)));
        }
    }
    for length in halves(whole.roots.len()) {
        for start in (0..whole.roots.len()).step_by(length) {
            offer(&|it| remove(&mut it.roots, start, length));
        }
    }
    for index in 0..whole.leftovers.len() {
        offer(&|it| remove(&mut it.leftovers, index, 1));
    }
    for (index, step) in whole.steps.iter().enumerate() {
        if let Arguments::Objects(objects) = &step.arguments {
            for omitted in (0..objects.len()).filter(|_| objects.len() > 1) {
                let mut fewer = objects.clone();
                fewer.remove(omitted);
                offer(&|it| it.steps[index].arguments = Arguments::Objects(fewer.clone()));
            }
        }
        offer(&|it| it.steps[index].goes_on_with = Whose::Nix);
    }
    for (number, object) in &whole.objects {
        for object in simpler(object, *number) {
            offer(&|it| drop(it.objects.insert(*number, object.clone())));
        }
    }
    for (index, root) in whole.roots.iter().enumerate() {
        if let Root::Temporary { of, is_held } = root {
            for number in of {
                let of = without(of, *number);
                offer(&|it| it.roots[index] = Root::Temporary { of: of.clone(), is_held: *is_held });
            }
        }
    }
    for index in 0..whole.leftovers.len() {
        offer(&|it| it.leftovers[index].tree = NOTHING);
    }
    offer(&|it| it.maker = Whose::Nix);
    all
}

const NOTHING: Tree = Tree::File { text: "", is_executable: false };

/// An object with one thing about it as simple as can be.
fn simpler(object: &Object, number: usize) -> Vec<Object> {
    let mut all = vec![
        Object { references: BTreeSet::new(), ..object.clone() },
        Object { tree: NOTHING, ..object.clone() },
        Object { kind: Kind::Plain, ..object.clone() },
        Object { state: State::Valid, ..object.clone() },
        Object { deriver: None, ..object.clone() },
        Object { refers_to_itself: false, ..object.clone() },
        Object { name: "a", ..object.clone() },
        Object { digit: number, ..object.clone() },
    ];
    if object.references.len() > 1 {
        let fewer = object.references.iter().map(|omitted| without(&object.references, *omitted));
        all.extend(fewer.map(|references| Object { references, ..object.clone() }));
    }
    if let Kind::Derivation { outputs, is_fixed } = &object.kind {
        let fewer = outputs.iter().filter(|_| outputs.len() > 1).map(|omitted| without(outputs, *omitted));
        let kinds = fewer.map(|outputs| Kind::Derivation { outputs, is_fixed: *is_fixed });
        all.extend(kinds.map(|kind| Object { kind, ..object.clone() }));
    }
    if let Tree::Directory(entries) = &object.tree {
        for (name, entry) in entries {
            let mut fewer = entries.clone();
            fewer.remove(name);
            all.push(Object { tree: Tree::Directory(fewer), ..object.clone() });
            all.push(Object { tree: entry.clone(), ..object.clone() });
        }
    }
    all
}

/// Half of a number of things, and half of that, down to one.
fn halves(number: usize) -> impl Iterator<Item = usize> {
    let half = number.div_ceil(2);
    std::iter::successors((half > 0).then_some(half), |length| (*length > 1).then(|| length.div_ceil(2)))
}

fn remove<T>(list: &mut Vec<T>, start: usize, length: usize) {
    drop(list.drain(start..list.len().min(start + length)));
}

fn without<T: Copy + Ord>(set: &BTreeSet<T>, omitted: T) -> BTreeSet<T> {
    set.iter().copied().filter(|one| *one != omitted).collect()
}
