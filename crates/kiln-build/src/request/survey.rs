//! What of a graph of derivations is missing, found out level by level: of all derivations of a level the store is asked at once,
//! and they are parsed side by side.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
type Wish = (StorePath, Arc<OutputsSpec>);

/// What is known about a valid derivation.
struct Node {
    /// Outputs that are neither valid nor substituted.
    lacking: Vec<OutputName>,
    /// What building it takes; nothing if it lacks nothing.
    inputs: Vec<Wish>,
    /// What is looked at and spared as soon as it is known that it is built.
    around: Option<Around>,
}

/// The paths around a derivation.
struct Around {
    sources: Vec<StorePath>,
    outputs: Vec<StorePath>,
}

struct Survey<'a> {
    store: &'a LocalStore,
    /// Paths that will be substituted.
    substituted: &'a BTreeSet<StorePath>,
    /// `None`: it is not valid.
    nodes: HashMap<StorePath, Option<Node>>,
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
    let nodes = HashMap::new();
    let mut survey = Survey { store, substituted, nodes, unknown: BTreeSet::new(), spared: Vec::new() };
    let mut wishes = Vec::new();
    let mut opaque = Vec::new();
    for target in targets {
        match target {
            DerivedPath::Built { derivation, outputs } => {
                wishes.push((derivation.path.clone(), Arc::new(outputs.clone())));
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
    /// Looks at what is wished, and at all that has to be built for it.
    fn look_at(&mut self, mut wishes: Vec<Wish>) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        while !wishes.is_empty() {
            wishes.retain(|wish| seen.insert(wish.clone()));
            let mut next = Vec::new();
            let mut sources = BTreeSet::new();
            for wishes in wishes.chunks(AT_ONCE) {
                self.load(wishes)?;
                for (path, spec) in wishes {
                    let Some(Some(node)) = self.nodes.get_mut(path) else { continue };
                    if !node.is_built(spec) {
                        continue;
                    }
                    let Some(around) = node.around.take() else { continue };
                    next.extend(node.inputs.iter().cloned());
                    sources.extend(around.sources);
                    self.spared.push(path.clone());
                    self.spared.extend(around.outputs);
                }
            }
            let valid = self.store.valid_among_blocking(&Vec::from_iter(sources.iter().cloned()))?;
            self.unknown.extend(sources.difference(&valid).cloned());
            self.spared.extend(sources);
            wishes = next;
        }
        Ok(())
    }

    /// Finds out about those derivations that are not known yet.
    fn load(&mut self, wishes: &[Wish]) -> Result<(), Failure> {
        let new = wishes.iter().map(|(path, _)| path).filter(|path| !self.nodes.contains_key(path));
        let new: Vec<StorePath> = new.collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let (store, substituted) = (self.store, self.substituted);
        let found = store.look_at_derivations_blocking(&new, |batch| nodes_of(store, substituted, batch))?;
        self.nodes.extend(found.into_iter().flatten().map(|(path, node)| (path, Some(node))));
        for path in new {
            if let Entry::Vacant(vacant) = self.nodes.entry(path) {
                self.unknown.insert(vacant.key().clone());
                vacant.insert(None);
            }
        }
        Ok(())
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
                steps.extend(node.inputs.iter().rev().map(Step::Enter));
            }
        }
        order
    }
}

/// What derivations lack, and what building them takes.
fn nodes_of(
    store: &LocalStore,
    substituted: &BTreeSet<StorePath>,
    derivations: Vec<(StorePath, Arc<Derivation>)>,
) -> Result<Vec<(StorePath, Node)>, Failure> {
    let mut made = Vec::with_capacity(derivations.len());
    for (path, derivation) in &derivations {
        made.push(output_paths(store, path, derivation)?);
    }
    let all: Vec<StorePath> = made.iter().flat_map(BTreeMap::values).cloned().collect();
    let valid = store.valid_among_blocking(&all)?;
    // Most inputs want the same.
    let mut specs: HashSet<Arc<OutputsSpec>> = HashSet::new();
    let mut nodes = Vec::with_capacity(derivations.len());
    for ((path, derivation), made) in derivations.into_iter().zip(made) {
        let is_there = |name: &OutputName| {
            made.get(name).is_some_and(|path| valid.contains(path) || substituted.contains(path))
        };
        let lacking: Vec<OutputName> =
            derivation.outputs.keys().filter(|name| !is_there(name)).cloned().collect();
        let mut inputs = Vec::new();
        let mut around = None;
        if !lacking.is_empty() {
            let mut wish = |wanted: OutputsSpec| match specs.get(&wanted) {
                Some(shared) => Arc::clone(shared),
                None => {
                    let wanted = Arc::new(wanted);
                    specs.insert(Arc::clone(&wanted));
                    wanted
                }
            };
            let wanted = derivation.input_derivations.iter();
            inputs = wanted
                .map(|(input, wanted)| (input.clone(), wish(OutputsSpec::Names(wanted.outputs().clone()))))
                .collect();
            let outputs = derivation.known_output_paths().map(|(_, path)| path.clone()).collect();
            around = Some(Around { sources: derivation.input_sources.iter().cloned().collect(), outputs });
        }
        nodes.push((path, Node { lacking, inputs, around }));
    }
    Ok(nodes)
}

impl Node {
    /// Whether it has to be built for what is wanted.
    fn is_built(&self, wanted: &OutputsSpec) -> bool {
        self.lacking.iter().any(|name| wanted.contains(name))
    }
}
