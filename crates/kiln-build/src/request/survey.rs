//! What of a graph of derivations is missing, found out level by level: of all derivations of a level the store is asked at once,
//! and they are parsed side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use kiln_derivation::Derivation;
use kiln_store::LocalStore;
use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, StorePath};

use super::query_missing::Missing;
use crate::error::Failure;
use crate::goal::output_paths;

/// Derivations of a level that are in memory at the same time.
const AT_ONCE: usize = 4096;

/// A derivation, and what is wanted of it.
type Wish = (StorePath, Rc<OutputsSpec>);

/// What is known about a valid derivation.
struct Node {
    /// Outputs that are neither valid nor substituted.
    lacking: Vec<OutputName>,
    /// What building it takes, once it is known that it is built.
    inputs: Option<Vec<Wish>>,
}

struct Survey<'a> {
    store: &'a LocalStore,
    /// Paths that will be substituted.
    substituted: &'a BTreeSet<StorePath>,
    /// `None`: it is not valid.
    nodes: HashMap<StorePath, Option<Node>>,
    /// Most inputs want the same.
    specs: HashSet<Rc<OutputsSpec>>,
    unknown: BTreeSet<StorePath>,
    /// What collectors are to leave alone.
    spared: Vec<StorePath>,
}

/// Finds out what is to be built for the targets if some paths are substituted, and what nobody has. What is found is spared
/// by collectors.
pub(super) fn survey(
    store: &LocalStore,
    targets: &[DerivedPath],
    substituted: &BTreeSet<StorePath>,
) -> Result<Missing, Failure> {
    let (nodes, specs) = (HashMap::new(), HashSet::new());
    let mut survey =
        Survey { store, substituted, nodes, specs, unknown: BTreeSet::new(), spared: Vec::new() };
    let mut wishes = Vec::new();
    let mut opaque = Vec::new();
    for target in targets {
        match target {
            DerivedPath::Built { derivation, outputs } => {
                let spec = survey.shared(outputs.clone());
                wishes.push((derivation.path.clone(), spec));
            }
            DerivedPath::Opaque(path) => opaque.push(path.clone()),
        }
    }
    let valid = store.valid_among_blocking(&opaque)?;
    survey.unknown.extend(opaque.into_iter().filter(|path| !valid.contains(path)));
    survey.look_at(wishes.clone())?;
    store.add_temp_roots_blocking(&survey.spared)?;
    Ok(Missing {
        will_build: survey.in_order(&wishes),
        unknown: survey.unknown.difference(substituted).cloned().collect(),
        ..Missing::default()
    })
}

impl Survey<'_> {
    fn shared(&mut self, spec: OutputsSpec) -> Rc<OutputsSpec> {
        if let Some(shared) = self.specs.get(&spec) {
            return Rc::clone(shared);
        }
        let spec = Rc::new(spec);
        self.specs.insert(Rc::clone(&spec));
        spec
    }

    /// Looks at what is wished, and at all that has to be built for it.
    fn look_at(&mut self, mut wishes: Vec<Wish>) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        while !wishes.is_empty() {
            wishes.retain(|wish| seen.insert(wish.clone()));
            let mut next = Vec::new();
            let mut sources = BTreeSet::new();
            for wishes in wishes.chunks(AT_ONCE) {
                let derivations = self.load(wishes)?;
                for (path, spec) in wishes {
                    let Some(Some(node)) = self.nodes.get(path) else { continue };
                    if node.inputs.is_some() || !node.is_built(spec) {
                        continue;
                    }
                    let derivation = match derivations.get(path) {
                        Some(derivation) => Arc::clone(derivation),
                        None => self.store.read_derivation_blocking(path)?,
                    };
                    next.extend(self.enter(path, &derivation));
                    sources.extend(derivation.input_sources.iter().cloned());
                }
            }
            let valid = self.store.valid_among_blocking(&Vec::from_iter(sources.iter().cloned()))?;
            self.unknown.extend(sources.difference(&valid).cloned());
            self.spared.extend(sources);
            wishes = next;
        }
        Ok(())
    }

    /// Finds out about those derivations that are not known yet, and returns those of them that are valid.
    fn load(&mut self, wishes: &[Wish]) -> Result<HashMap<StorePath, Arc<Derivation>>, Failure> {
        let new = wishes.iter().map(|(path, _)| path).filter(|path| !self.nodes.contains_key(path));
        let new: Vec<StorePath> = new.collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let derivations = self.store.read_derivations_blocking(&new)?;
        let mut outputs = BTreeMap::new();
        for (path, derivation) in &derivations {
            outputs.insert(path, output_paths(self.store, path, derivation)?);
        }
        let all: Vec<StorePath> = outputs.values().flat_map(BTreeMap::values).cloned().collect();
        let valid = self.store.valid_among_blocking(&all)?;
        for path in &new {
            let node = derivations.get(path).map(|derivation| {
                let outputs = outputs.get(path);
                let is_there = |name: &OutputName| {
                    let path = outputs.and_then(|outputs| outputs.get(name));
                    path.is_some_and(|path| valid.contains(path) || self.substituted.contains(path))
                };
                let lacking = derivation.outputs.keys().filter(|name| !is_there(name));
                Node { lacking: lacking.cloned().collect(), inputs: None }
            });
            if node.is_none() {
                self.unknown.insert(path.clone());
            }
            self.nodes.insert(path.clone(), node);
        }
        Ok(derivations)
    }

    /// Notes that a derivation is built, and returns what that takes.
    fn enter(&mut self, path: &StorePath, derivation: &Derivation) -> Vec<Wish> {
        self.spared.push(path.clone());
        self.spared.extend(derivation.known_output_paths().map(|(_, path)| path.clone()));
        let mut inputs = Vec::with_capacity(derivation.input_derivations.len());
        for (input, wanted) in &derivation.input_derivations {
            inputs.push((input.clone(), self.shared(OutputsSpec::Names(wanted.outputs().clone()))));
        }
        if let Some(Some(node)) = self.nodes.get_mut(path) {
            node.inputs = Some(inputs.clone());
        }
        inputs
    }

    /// What is built for some wishes, inputs before those that use them.
    fn in_order(&self, wishes: &[Wish]) -> Vec<StorePath> {
        enum Step<'a> {
            Enter(&'a Wish),
            Leave(&'a StorePath),
        }
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let mut steps: Vec<Step<'_>> = wishes.iter().rev().map(Step::Enter).collect();
        while let Some(step) = steps.pop() {
            let (path, spec) = match step {
                Step::Enter(wish) => wish,
                Step::Leave(path) => {
                    order.push(path.clone());
                    continue;
                }
            };
            if let Some(Some(node)) = self.nodes.get(path)
                && node.is_built(spec)
                && seen.insert(path)
            {
                steps.push(Step::Leave(path));
                steps.extend(node.inputs.iter().flatten().rev().map(Step::Enter));
            }
        }
        order
    }
}

impl Node {
    /// Whether it has to be built for what is wanted.
    fn is_built(&self, wanted: &OutputsSpec) -> bool {
        self.lacking.iter().any(|name| wanted.contains(name))
    }
}
