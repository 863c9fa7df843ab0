//! Descriptions at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::description::{
    Arguments, Deriver, Description, Effect, Kind, Leftover, Object, Root, State, Step, Target, Tree,
};
use crate::both::Whose;

/// Most objects of a store.
const OBJECTS: usize = 14;

/// Names with all that may be in them; the longest that there can be, but for what a lock and an output add.
const NAMES: [&str; 12] = [
    "a",
    "b-lib",
    "c-1.2",
    "tool-bin-x",
    "+a.b_c?d=e",
    "0",
    "-dash",
    "x.chroot",
    "x.tmp",
    "drv",
    "source",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
];

/// Names in directories.
const ENTRIES: [&str; 7] = ["a", "b", "sp ace", "caf\u{e9}", ".hidden", "new\nline", "$(x)"];

/// Few, so that files are the same as others; some of the same size.
const TEXTS: [&str; 6] = ["", "a", "b", "a longer one", "another one!", "\u{0}\u{ff}\n"];

/// Where links lead.
const TARGETS: [&str; 4] = ["a", "nowhere", "/", "../.."];

/// What programs that were killed leave, and people put into a store.
const LEFTOVERS: [&str; 9] = [
    "junk",
    ".hidden",
    "tmp-2147483647-2",
    "00000000000000000000000000000000-x.lock",
    "00000000000000000000000000000000-x.chroot",
    "00000000000000000000000000000000-bad*name",
    "name.lock",
    ".tmp-link-2147483647-2",
    ".links/0000000000000000000000000000000000000000000000000000",
];

/// What derivations make.
const OUTPUTS: [&[&str]; 4] = [&["out"], &["dev", "out"], &["bin", "dev", "out"], &["lib"]];

/// Questions about objects.
const QUESTIONS: [&str; 21] = [
    "-q --outputs",
    "-q -R",
    "-q -R --include-outputs",
    "-q --references",
    "-q --referrers",
    "-q --referrers-closure",
    "-q --deriver",
    "-q --tree",
    "-q --graph",
    "-q --graphml",
    "-q --hash",
    "-q --size",
    "-q --resolve",
    "-q --binding name",
    "-q -u --references",
    "-q -u -R",
    "-q -u --size",
    "-q --roots",
    "--export",
    "--check-validity --print-invalid",
    "--verify-path",
];

/// What is done besides with a store, by each way of keeping more than what roots lead to.
const COLLECTING: [&str; 3] = ["--gc", "--gc --print-live", "--gc --print-dead"];

/// Ways of keeping derivations for their outputs, and outputs for their derivations.
const RETENTIONS: [&str; 4] = [
    "--option keep-outputs true --option keep-derivations true",
    "--option keep-outputs true --option keep-derivations false",
    "--option keep-outputs false --option keep-derivations true",
    "--option keep-outputs false --option keep-derivations false",
];

pub(crate) fn descriptions() -> impl Strategy<Value = Description> {
    let objects = vec(option::weighted(0.8, object()), OBJECTS).prop_map(|objects| {
        let mut objects: BTreeMap<usize, Object> =
            objects.into_iter().enumerate().filter_map(|(number, object)| Some((number, object?))).collect();
        for (number, object) in &mut objects {
            object.references.retain(|reference| reference < number);
        }
        objects
    });
    // Most stores are not damaged, so that most of what happens to them is not about that.
    let objects = (objects, prop::bool::weighted(0.4)).prop_map(|(mut objects, is_damaged)| {
        let states = objects.values_mut().map(|object| &mut object.state);
        states.filter(|_| !is_damaged).for_each(|state| *state = State::Valid);
        objects
    });
    (whose(), objects, vec(root(), 0..5), leftovers(), vec(step(), 1..10)).prop_map(
        |(maker, objects, roots, leftovers, steps)| Description { maker, objects, roots, leftovers, steps },
    )
}

fn whose() -> impl Strategy<Value = Whose> {
    select(&[Whose::Nix, Whose::Kiln][..])
}

fn numbers() -> impl Strategy<Value = BTreeSet<usize>> {
    vec(0..OBJECTS, 0..5).prop_map(|numbers| numbers.into_iter().collect())
}

fn object() -> impl Strategy<Value = Object> {
    let deriver = prop_oneof![4 => Just(Deriver::Own), 1 => Just(Deriver::Gone)];
    let state = prop_oneof![
        9 => Just(State::Valid),
        1 => Just(State::Unregistered),
        1 => Just(State::Missing),
        1 => Just(State::Damaged),
    ];
    let name = select(&NAMES[..]);
    let deriver = option::weighted(0.7, deriver);
    (name, 0..32usize, kind(), numbers(), prop::bool::weighted(0.3), deriver, state, tree()).prop_map(
        |(name, digit, kind, references, refers_to_itself, deriver, state, tree)| Object {
            name,
            digit,
            kind,
            references,
            refers_to_itself,
            deriver,
            state,
            tree,
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    let outputs = select(&OUTPUTS[..]).prop_map(|outputs| outputs.iter().copied().collect());
    prop_oneof![
        4 => Just(Kind::Plain),
        1 => Just(Kind::Added),
        2 => (outputs, prop::bool::weighted(0.2))
            .prop_map(|(outputs, is_fixed)| Kind::Derivation { outputs, is_fixed }),
        3 => (0..OBJECTS, select(&["out", "out", "dev", "bin", "lib"][..]))
            .prop_map(|(derivation, output)| Kind::Output(derivation, output)),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        4 => (select(&TEXTS[..]), prop::bool::weighted(0.3))
            .prop_map(|(text, is_executable)| Tree::File { text, is_executable }),
        1 => select(&TARGETS[..]).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        btree_map(select(&ENTRIES[..]), inner, 0..5).prop_map(Tree::Directory)
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        6 => (0..OBJECTS).prop_map(Target::Object),
        1 => (0..OBJECTS).prop_map(Target::Inside),
        1 => Just(Target::Nothing),
        1 => Just(Target::Elsewhere),
    ]
}

fn root() -> impl Strategy<Value = Root> {
    prop_oneof![
        (select(&["root", "below/that/root", "sp ace", ".hidden"][..]), target())
            .prop_map(|(name, target)| Root::Direct(name, target)),
        (target(), target()).prop_map(|(last, before)| Root::Profile(last, before)),
        target().prop_map(Root::Indirect),
        target().prop_map(Root::Chain),
        Just(Root::Dangling),
        (0..OBJECTS).prop_map(Root::File),
        (numbers(), any::<bool>()).prop_map(|(of, is_held)| Root::Temporary { of, is_held }),
    ]
}

fn leftovers() -> impl Strategy<Value = Vec<Leftover>> {
    let leftover = |(name, tree): (&'static str, Tree)| {
        // In the pool there are only files.
        let is_pool = name.starts_with(".links/");
        let tree = if is_pool { Tree::File { text: "pooled", is_executable: false } } else { tree };
        Leftover { name, tree }
    };
    btree_map(select(&LEFTOVERS[..]), tree(), 0..3)
        .prop_map(move |leftovers| leftovers.into_iter().map(leftover).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let objects = || vec(0..OBJECTS, 1..5).prop_map(Arguments::Objects);
    let collecting = (select(&COLLECTING[..]), select(&RETENTIONS[..])).prop_map(|(line, retention)| {
        let effect = if line == "--gc" { Effect::Changes } else { Effect::OnlyByNix };
        (format!("{line} {retention}"), Arguments::None, effect)
    });
    let fixed = |lines: &'static [&'static str], effect: Effect| {
        select(lines).prop_map(move |line| (line.to_owned(), Arguments::None, effect))
    };
    let about = |lines: &'static [&'static str], effect: Effect| {
        (select(lines), objects()).prop_map(move |(line, objects)| (line.to_owned(), objects, effect))
    };
    let line = prop_oneof![
        8 => about(&QUESTIONS, Effect::None),
        6 => collecting,
        1 => fixed(&["--dump-db"], Effect::None),
        1 => fixed(&["--gc --print-roots"], Effect::OnlyByNix),
        3 => fixed(&["--optimise", "--verify", "--verify --check-contents"], Effect::Changes),
        2 => about(&["--delete", "--delete --ignore-liveness"], Effect::Changes),
        1 => fixed(&["--load-db"], Effect::Loads),
        1 => about(&["--import"], Effect::Imports),
    ];
    (line, whose()).prop_map(|((line, arguments, effect), goes_on_with)| Step {
        line,
        arguments,
        effect,
        goes_on_with,
    })
}
