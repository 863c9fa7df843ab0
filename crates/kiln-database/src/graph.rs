//! The references of a whole store in memory: what collection, verification and other work on all paths needs.
//!
//! Paths become small integers and edges two compressed arrays, so that a million paths with ten references each take
//! some 200 MB at most, and following an edge costs a memory access instead of a query.

use std::collections::{BinaryHeap, HashMap};

use kiln_store_path::StorePath;

use crate::error::Result;
use crate::read::ReadConnection;
use crate::row::decode_path;

/// A valid path in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(u32);

impl Node {
    /// Position among all nodes of the graph, for arrays beside it.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All valid paths and their edges at one moment.
pub struct Graph {
    paths: Vec<StorePath>,
    nodes: HashMap<StorePath, Node>,
    nar_sizes: Vec<u64>,
    registration_times: Vec<u64>,
    references: Edges,
    referrers: Edges,
    outputs: Edges,
    derivers: Edges,
}

/// Edges from each node: those of node `n` are `targets[starts[n]..starts[n + 1]]`.
struct Edges {
    starts: Vec<u32>,
    targets: Vec<Node>,
}

impl Edges {
    /// Sorts edges by where they start; `reversed` turns them around.
    fn new(nodes: usize, edges: &[(Node, Node)], reversed: bool) -> Self {
        let turned = || edges.iter().map(|&(from, to)| if reversed { (to, from) } else { (from, to) });
        let mut starts = vec![0_u32; nodes + 1];
        for (from, _) in turned() {
            if let Some(count) = starts.get_mut(from.index() + 1) {
                *count += 1;
            }
        }
        let mut total = 0;
        for start in &mut starts {
            total += *start;
            *start = total;
        }
        let mut next = starts.clone();
        let mut targets = vec![Node(0); edges.len()];
        for (from, to) in turned() {
            if let Some(position) = next.get_mut(from.index()) {
                if let Some(slot) = targets.get_mut(*position as usize) {
                    *slot = to;
                }
                *position += 1;
            }
        }
        Self { starts, targets }
    }

    fn of(&self, node: Node) -> &[Node] {
        let bound = |index: usize| self.starts.get(index).map_or(0, |start| *start as usize);
        self.targets.get(bound(node.index())..bound(node.index() + 1)).unwrap_or_default()
    }
}

/// A set of nodes of one graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSet {
    words: Vec<u64>,
    count: usize,
}

impl NodeSet {
    /// Adds a node; false if it was there already.
    pub fn insert(&mut self, node: Node) -> bool {
        let bit = 1_u64 << (node.0 % 64);
        match self.words.get_mut(node.index() / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Whether a node is among them.
    pub fn contains(&self, node: Node) -> bool {
        self.words.get(node.index() / 64).is_some_and(|word| word & 1 << (node.0 % 64) != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Node> {
        self.words.iter().zip(0_u32..).flat_map(|(&word, position)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| Node(position * 64 + bit))
        })
    }
}

impl Graph {
    /// Reads all paths and edges from one snapshot.
    pub(crate) fn load(reader: &ReadConnection) -> Result<Self> {
        reader.snapshot(|reader| {
            let rows = reader.rows(
                "loading all paths",
                "select id, path, narSize, registrationTime, deriver from ValidPaths order by id",
                [],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, Option<i64>>(2)?,
                        row.get::<_, i64>(3)?,
                        row.get::<_, Option<String>>(4)?,
                    ))
                },
            )?;
            let mut ids = HashMap::with_capacity(rows.len());
            let mut nodes = HashMap::with_capacity(rows.len());
            let (mut paths, mut nar_sizes, mut times) = (Vec::new(), Vec::new(), Vec::new());
            let mut stated_derivers = Vec::new();
            for ((id, path, size, time, deriver), number) in rows.into_iter().zip(0_u32..) {
                let path = decode_path(reader.store_dir(), "ValidPaths.path", &path)?;
                ids.insert(id, Node(number));
                nodes.insert(path.clone(), Node(number));
                paths.push(path);
                nar_sizes.push(u64::try_from(size.unwrap_or(0)).unwrap_or(0));
                times.push(u64::try_from(time).unwrap_or(0));
                stated_derivers.extend(deriver.map(|deriver| (Node(number), deriver)));
            }
            let pair = |(from, to): (i64, i64)| Some((*ids.get(&from)?, *ids.get(&to)?));
            let edges = |doing, sql| -> Result<Vec<(Node, Node)>> {
                let rows = reader.rows(doing, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.into_iter().filter_map(pair).collect())
            };
            let references = edges("loading all references", "select referrer, reference from Refs")?;
            let outputs = edges(
                "loading all derivation outputs",
                "select d.drv, v.id from DerivationOutputs d join ValidPaths v on v.path = d.path",
            )?;
            let derivers: Vec<_> = stated_derivers
                .into_iter()
                .filter_map(|(output, deriver)| {
                    let deriver = decode_path(reader.store_dir(), "ValidPaths.deriver", &deriver).ok()?;
                    Some((output, *nodes.get(&deriver)?))
                })
                .collect();
            let count = paths.len();
            Ok(Self {
                references: Edges::new(count, &references, false),
                referrers: Edges::new(count, &references, true),
                outputs: Edges::new(count, &outputs, false),
                derivers: Edges::new(count, &derivers, false),
                paths,
                nodes,
                nar_sizes,
                registration_times: times,
            })
        })
    }

    /// Adds outputs of derivations that are known by other ways than the database's table of outputs.
    pub fn add_outputs(&mut self, more: Vec<(Node, Node)>) {
        let known =
            self.nodes().flat_map(|node| self.outputs(node).iter().map(move |output| (node, *output)));
        let all: Vec<(Node, Node)> = known.chain(more).collect();
        self.outputs = Edges::new(self.paths.len(), &all, false);
    }

    /// How many valid paths there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether no path is valid.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// All nodes, in the order in which their paths were registered first.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node> + use<> {
        (0..u32::try_from(self.paths.len()).unwrap_or(u32::MAX)).map(Node)
    }

    /// The node of a path, if it was valid.
    pub fn node(&self, path: &StorePath) -> Option<Node> {
        self.nodes.get(path).copied()
    }

    /// The path of a node of this graph.
    pub fn path(&self, node: Node) -> Option<&StorePath> {
        self.paths.get(node.index())
    }

    /// Bytes of the path's NAR; 0 if not known.
    pub fn nar_size(&self, node: Node) -> u64 {
        self.nar_sizes.get(node.index()).copied().unwrap_or(0)
    }

    /// When the path became valid, in seconds since the Unix epoch.
    pub fn registration_time(&self, node: Node) -> u64 {
        self.registration_times.get(node.index()).copied().unwrap_or(0)
    }

    /// The paths that a path refers to, itself among them if it does.
    pub fn references(&self, node: Node) -> &[Node] {
        self.references.of(node)
    }

    /// The paths that refer to a path, itself among them if it does.
    pub fn referrers(&self, node: Node) -> &[Node] {
        self.referrers.of(node)
    }

    /// The valid outputs of a derivation.
    pub fn outputs(&self, node: Node) -> &[Node] {
        self.outputs.of(node)
    }

    /// The derivation on record for an output, if it is valid.
    pub fn deriver(&self, node: Node) -> Option<Node> {
        self.derivers.of(node).first().copied()
    }

    /// A set of this graph's nodes with nothing in it.
    pub fn empty_set(&self) -> NodeSet {
        NodeSet { words: vec![0; self.paths.len().div_ceil(64)], count: 0 }
    }

    /// Adds to `reached` all that can be reached from `start`, itself included, over the edges that `next` gives.
    /// Nodes that are in the set already are taken as done, so that closures can be united at no cost.
    pub fn reach<'a>(
        &'a self,
        start: impl IntoIterator<Item = Node>,
        reached: &mut NodeSet,
        next: impl Fn(&'a Self, Node) -> &'a [Node],
    ) {
        let mut pending: Vec<Node> = start.into_iter().filter(|node| reached.insert(*node)).collect();
        while let Some(node) = pending.pop() {
            pending.extend(next(self, node).iter().copied().filter(|node| reached.insert(*node)));
        }
    }

    /// All that `start` needs, itself included.
    pub fn closure(&self, start: impl IntoIterator<Item = Node>) -> NodeSet {
        let mut closure = self.empty_set();
        self.reach(start, &mut closure, Self::references);
        closure
    }

    /// The nodes of a set so that each comes before all of the set that it refers to; of others, the one that was registered
    /// last goes first: what is done to neighbours in the database is done to fewer of its pages.
    pub fn referrers_first(&self, set: &NodeSet) -> Vec<Node> {
        let mut waiting_for: HashMap<Node, usize> = HashMap::with_capacity(set.len());
        for node in set.iter() {
            let others = self.referrers(node).iter().filter(|from| **from != node && set.contains(**from));
            waiting_for.insert(node, others.count());
        }
        let mut ready: BinaryHeap<Node> =
            set.iter().filter(|node| waiting_for.get(node) == Some(&0)).collect();
        let mut order = Vec::with_capacity(set.len());
        while let Some(node) = ready.pop() {
            order.push(node);
            for reference in self.references(node).iter().filter(|reference| **reference != node) {
                if let Some(count) = waiting_for.get_mut(reference) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(*reference);
                    }
                }
            }
        }
        order
    }
}
