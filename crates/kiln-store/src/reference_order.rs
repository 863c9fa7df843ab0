//! Paths in the order of their references.

use std::collections::{BTreeSet, HashMap};

use kiln_store_path::StorePath;

use crate::error::Result;
use crate::local::LocalStore;

/// The paths, each after those among them that it refers to; otherwise in the order of their names, like those that Nix
/// prints and exports.
///
/// `references` tells what a path refers to: paths that are not among `paths` don't count, nor does the path itself.
pub fn references_first<'a, R>(
    paths: &'a BTreeSet<StorePath>,
    references: impl Fn(&StorePath) -> R,
) -> Vec<StorePath>
where
    R: IntoIterator<Item = &'a StorePath>,
{
    let numbers: HashMap<&StorePath, usize> = paths.iter().zip(0..).collect();
    let list: Vec<&StorePath> = paths.iter().collect();
    let order = order(list.len(), |number| {
        let known = list.get(number).map(|path| references(path)).into_iter().flatten();
        known.filter_map(|reference| numbers.get(reference).copied())
    });
    order.into_iter().filter_map(|number| list.get(number).copied().cloned()).collect()
}

/// The numbers below `count`, each after those that it refers to; otherwise in the order in which `references` has them.
fn order<R: IntoIterator<Item = usize>>(count: usize, references: impl Fn(usize) -> R) -> Vec<usize> {
    let mut order = Vec::with_capacity(count);
    let mut seen = vec![false; count];
    let mut is_new = |number: usize| seen.get_mut(number).is_some_and(|seen| !std::mem::replace(seen, true));
    let mut open = Vec::new();
    for start in 0..count {
        if is_new(start) {
            open.push((start, references(start).into_iter()));
        }
        while let Some((number, rest)) = open.last_mut() {
            match rest.next() {
                Some(reference) => {
                    if is_new(reference) {
                        open.push((reference, references(reference).into_iter()));
                    }
                }
                None => {
                    order.push(*number);
                    open.pop();
                }
            }
        }
    }
    order
}

impl LocalStore {
    /// The paths as [`references_first`] orders them. Those that are not valid refer to nothing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn references_first(&self, paths: BTreeSet<StorePath>) -> Result<Vec<StorePath>> {
        self.work(move |store| {
            let paths: Vec<StorePath> = paths.into_iter().collect();
            let references = store.database().reader()?.references_among(&paths)?;
            let order = order(paths.len(), |number| references.get(number).into_iter().flatten().copied());
            Ok(order.into_iter().filter_map(|number| paths.get(number).cloned()).collect())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn path(name: char) -> StorePath {
        StorePath::from_base_name(format!("{}-{name}", name.to_string().repeat(32))).unwrap()
    }

    /// The order of the paths with these names and references, as names.
    fn order(graph: &[(char, &str)], of: &str) -> String {
        let graph: BTreeMap<StorePath, BTreeSet<StorePath>> = graph
            .iter()
            .map(|(name, references)| (path(*name), references.chars().map(path).collect()))
            .collect();
        let paths = of.chars().map(path).collect();
        let order = references_first(&paths, |path| graph.get(path).into_iter().flatten());
        order.iter().map(|path| path.name().to_owned()).collect()
    }

    #[test]
    fn references_come_first_and_names_decide_otherwise() {
        let graph = [('a', "dc"), ('b', "b"), ('c', "d"), ('d', ""), ('f', "abf")];
        assert_eq!(order(&graph, "abcdf"), "dcabf");
        assert_eq!(order(&graph, "fa"), "af", "what is not asked for does not count");
        assert_eq!(order(&graph, "ad"), "da");
        assert_eq!(order(&graph, "xa"), "ax", "what is not known refers to nothing");
        assert_eq!(order(&graph, ""), "");
    }

    #[test]
    fn long_chains_and_circles_end() {
        let number =
            |number: u32| StorePath::from_base_name(format!("{}-{number:06}", "0".repeat(32))).unwrap();
        let chain: BTreeMap<StorePath, BTreeSet<StorePath>> = (0..100_000)
            .map(|index| (number(index), BTreeSet::from([number((index + 1) % 100_000)])))
            .collect();
        let paths = chain.keys().cloned().collect();
        let order = references_first(&paths, |path| chain.get(path).into_iter().flatten());
        assert_eq!(order.first(), Some(&number(99_999)));
        assert_eq!(order.last(), Some(&number(0)));
    }
}
