//! What is in a random store and what is done with it, as plain data.
//!
//! Things refer to each other by number. What is taken away leaves its number free, and those who referred to it do without
//! it: so a description still says the same of all others when some of it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::both::Whose;

/// A store and what is done with it. It is shown in one line for each part.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// Who adds the objects to the store.
    pub(crate) maker: Whose,
    pub(crate) objects: BTreeMap<usize, Object>,
    pub(crate) roots: Vec<Root>,
    pub(crate) leftovers: Vec<Leftover>,
    pub(crate) steps: Vec<Step>,
}

/// Something that has a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) name: &'static str,
    /// The first digit of its path, where that does not follow from what it is. Paths are sorted by it.
    pub(crate) digit: usize,
    pub(crate) kind: Kind,
    /// Objects with smaller numbers.
    pub(crate) references: BTreeSet<usize>,
    pub(crate) refers_to_itself: bool,
    pub(crate) deriver: Option<Deriver>,
    pub(crate) state: State,
    pub(crate) tree: Tree,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its path follows from nothing.
    Plain,
    /// Its path follows from its content: it is added, and refers to nothing.
    Added,
    /// A derivation; its references are what it needs.
    Derivation { outputs: BTreeSet<&'static str>, is_fixed: bool },
    /// An output of a derivation with a smaller number, or else plain.
    Output(usize, &'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deriver {
    /// The derivation that it is an output of. What else is said to have made something is believed by real Nix or not,
    /// depending on what it comes to first.
    Own,
    /// A derivation that is in no store.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Valid,
    /// There, and nobody knows it.
    Unregistered,
    /// Valid by the database, and not there.
    Missing,
    /// Valid, and something else than what was registered.
    Damaged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    File { text: &'static str, is_executable: bool },
    Link(&'static str),
    Directory(BTreeMap<&'static str, Tree>),
}

/// What keeps things alive, or is to look so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// A link among the roots, or in a directory below.
    Direct(&'static str, Target),
    /// The last generation of a profile, and the one before.
    Profile(Target, Target),
    /// A link elsewhere that a link of `gcroots/auto` leads to.
    Indirect(Target),
    /// The same, by another link between.
    Chain(Target),
    /// A link of `gcroots/auto` that leads nowhere.
    Dangling,
    /// A file that is named like a store path.
    File(usize),
    /// A process's temporary roots. The process is alive, or left them when it was killed.
    Temporary { of: BTreeSet<usize>, is_held: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Object(usize),
    /// Something in an object, which need not be there.
    Inside(usize),
    /// A store path that there is not.
    Nothing,
    /// Not in the store.
    Elsewhere,
}

/// Something in the store directory that is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) name: &'static str,
    pub(crate) tree: Tree,
}

/// A command line that both run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) line: String,
    /// What its arguments are.
    pub(crate) arguments: Arguments,
    pub(crate) effect: Effect,
    /// On whose copy the next step is run.
    pub(crate) goes_on_with: Whose,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    None,
    Objects(Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None: both run it on the same store.
    None,
    /// None that Kiln has. Real Nix deletes links that lead nowhere, and what has no store path, even when it is only asked.
    OnlyByNix,
    /// The store is another one afterwards: both run it on copies.
    Changes,
    /// The same, and it reads the database as a text after the database was deleted.
    Loads,
    /// The same, and it reads an export of the arguments' closure after all garbage was deleted.
    Imports,
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "made by {:?}", self.maker)?;
        for (number, object) in &self.objects {
            writeln!(f, "  {number}: {object:?}")?;
        }
        self.roots.iter().try_for_each(|root| writeln!(f, "  root {root:?}"))?;
        for Leftover { name, tree } in &self.leftovers {
            writeln!(f, "  leftover {name}: {tree:?}")?;
        }
        for Step { line, arguments, effect, goes_on_with } in &self.steps {
            writeln!(f, "  then '{line}' {arguments:?}, effect {effect:?}, on with {goes_on_with:?}'s")?;
        }
        Ok(())
    }
}
