//! The order of a copy: references before referrers.

use std::collections::{BTreeSet, HashMap};

use kiln_store_path::StorePath;

/// What can be copied next, given what has arrived.
pub(crate) struct Order {
    /// How many references of each path have yet to arrive.
    waiting: HashMap<StorePath, usize>,
    /// Who waits for each path.
    referrers: HashMap<StorePath, Vec<StorePath>>,
    ready: Vec<StorePath>,
    done: usize,
}

impl Order {
    /// An order for these paths with their references. What is not among the paths is not waited for.
    pub(crate) fn new<'a>(
        paths: impl Iterator<Item = (&'a StorePath, &'a BTreeSet<StorePath>)> + Clone,
    ) -> Self {
        let mut waiting: HashMap<StorePath, usize> =
            paths.clone().map(|(path, _)| (path.clone(), 0)).collect();
        let mut referrers: HashMap<StorePath, Vec<StorePath>> = HashMap::new();
        for (path, references) in paths {
            let awaited = references.iter().filter(|other| *other != path && waiting.contains_key(*other));
            let awaited: Vec<&StorePath> = awaited.collect();
            for reference in &awaited {
                referrers.entry((*reference).clone()).or_default().push(path.clone());
            }
            waiting.insert(path.clone(), awaited.len());
        }
        let mut ready: Vec<StorePath> =
            waiting.iter().filter(|(_, count)| **count == 0).map(|(path, _)| path.clone()).collect();
        // The same copy goes in the same order each time.
        ready.sort_unstable_by(|a, b| b.cmp(a));
        waiting.retain(|_, count| *count > 0);
        Self { waiting, referrers, ready, done: 0 }
    }

    /// A path all of whose references have arrived.
    pub(crate) fn next(&mut self) -> Option<StorePath> {
        self.ready.pop()
    }

    /// A path has arrived.
    pub(crate) fn arrived(&mut self, path: &StorePath) {
        self.done += 1;
        for referrer in self.referrers.remove(path).unwrap_or_default() {
            if let Some(count) = self.waiting.get_mut(&referrer) {
                *count -= 1;
                if *count == 0 {
                    self.waiting.remove(&referrer);
                    self.ready.push(referrer);
                }
            }
        }
    }

    /// How many have arrived.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// A path that waits for ever, once all others have arrived.
    pub(crate) fn stuck(&self) -> Option<&StorePath> {
        self.waiting.keys().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(format!("{number:032}-p").as_bytes()).unwrap()
    }

    /// A graph: of each path the numbers of its references.
    fn run(graph: &[Vec<usize>]) -> (Vec<usize>, bool) {
        let paths: Vec<(StorePath, BTreeSet<StorePath>)> = graph
            .iter()
            .enumerate()
            .map(|(number, references)| {
                (path(number), references.iter().map(|number| path(*number)).collect())
            })
            .collect();
        let mut order = Order::new(paths.iter().map(|(path, references)| (path, references)));
        let mut came = Vec::new();
        while let Some(next) = order.next() {
            order.arrived(&next);
            came.push((0..graph.len()).find(|number| path(*number) == next).unwrap());
        }
        assert_eq!(order.done(), came.len());
        (came, order.stuck().is_some())
    }

    #[test]
    fn circles_are_noticed() {
        assert_eq!(run(&[vec![0], vec![0]]), (vec![0, 1], false));
        assert_eq!(run(&[vec![1], vec![0], vec![]]), (vec![2], true));
        assert_eq!(run(&[vec![99]]), (vec![0], false), "what is there already is not waited for");
        assert_eq!(run(&[]), (vec![], false));
    }

    proptest! {
        #[test]
        fn references_come_first(seed in proptest::collection::vec(proptest::collection::vec(0_usize..40, 0..5), 0..40)) {
            let graph: Vec<Vec<usize>> = seed
                .iter()
                .enumerate()
                .map(|(number, references)| references.iter().copied().filter(|other| *other <= number).collect())
                .collect();
            let (came, stuck) = run(&graph);
            prop_assert!(!stuck && came.len() == graph.len());
            let place = |number: usize| came.iter().position(|other| *other == number).unwrap();
            for (number, references) in graph.iter().enumerate() {
                for reference in references {
                    prop_assert!(*reference == number || place(*reference) < place(number));
                }
            }
        }
    }
}
