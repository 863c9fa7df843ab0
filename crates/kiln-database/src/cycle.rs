//! Cycles in the references of a set of paths that are registered together.

use std::collections::HashMap;

use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use crate::write::Registration;

/// A cycle among the references within the set: the path that is reached again, and the path from which it is. A path's
/// reference to itself is none.
pub(crate) fn find_cycle(set: &[Registration]) -> Option<(&StorePath, &StorePath)> {
    let mut indices: HashMap<&StorePath, usize> = HashMap::with_capacity(set.len());
    for (index, registration) in set.iter().enumerate() {
        // A path that stands twice is one node.
        indices.entry(&registration.info.path).or_insert(index);
    }
    let mut references: Vec<Vec<usize>> = vec![Vec::new(); set.len()];
    for PathInfo { path, references: targets, .. } in set.iter().map(|registration| &registration.info) {
        let others = targets.iter().filter(|target| *target != path);
        if let Some(slot) = indices.get(path).and_then(|index| references.get_mut(*index)) {
            slot.extend(others.filter_map(|target| indices.get(target).copied()));
        }
    }
    let mut referrers: Vec<usize> = vec![0; set.len()];
    for reference in references.iter().flatten() {
        if let Some(count) = referrers.get_mut(*reference) {
            *count += 1;
        }
    }
    // Take away what nothing refers to, again and again; what stays is on a cycle or referred to from one.
    let mut free: Vec<usize> =
        referrers.iter().enumerate().filter(|(_, count)| **count == 0).map(|(index, _)| index).collect();
    let mut taken = vec![false; set.len()];
    while let Some(index) = free.pop() {
        if let Some(slot) = taken.get_mut(index) {
            *slot = true;
        }
        for reference in references.get(index).into_iter().flatten() {
            if let Some(count) = referrers.get_mut(*reference) {
                *count -= 1;
                if *count == 0 {
                    free.push(*reference);
                }
            }
        }
    }
    // Backwards every path that stayed has a referrer that stayed, so that walking must come around.
    let mut remaining_referrer: Vec<Option<usize>> = vec![None; set.len()];
    for (index, targets) in references.iter().enumerate() {
        if taken.get(index) == Some(&false) {
            for target in targets {
                if let Some(slot) = remaining_referrer.get_mut(*target) {
                    slot.get_or_insert(index);
                }
            }
        }
    }
    let mut index = taken.iter().position(|taken| !taken)?;
    let mut seen = vec![false; set.len()];
    loop {
        if std::mem::replace(seen.get_mut(index)?, true) {
            let from = (*remaining_referrer.get(index)?)?;
            return Some((&set.get(index)?.info.path, &set.get(from)?.info.path));
        }
        index = (*remaining_referrer.get(index)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_hash::Sha256;
    use proptest::prelude::*;

    fn path(number: usize) -> StorePath {
        StorePath::from_base_name(format!("{number:032}-p")).unwrap()
    }

    fn set(edges: &[(usize, usize)], size: usize) -> Vec<Registration> {
        (0..size)
            .map(|number| {
                let mut info = PathInfo::new(path(number), Sha256::UNKNOWN, 1);
                info.references =
                    edges.iter().filter(|edge| edge.0 == number).map(|edge| path(edge.1)).collect();
                info.into()
            })
            .collect()
    }

    #[test]
    fn names_the_path_and_where_it_is_reached_from() {
        let set = set(&[(0, 1), (1, 2), (2, 3), (3, 1), (3, 3), (2, 9)], 4);
        let (to, from) = find_cycle(&set).unwrap();
        let info =
            |path: &StorePath| &set.iter().find(|registration| registration.info.path == *path).unwrap().info;
        assert!(info(from).references.contains(to));
        assert!([path(1), path(2), path(3)].contains(to), "{to} is not on the cycle");
    }

    #[test]
    fn a_reference_to_itself_is_no_cycle() {
        assert_eq!(find_cycle(&set(&[(0, 0), (1, 0), (1, 1)], 2)), None);
    }

    proptest! {
        #[test]
        fn finds_one_exactly_if_there_is_one(edges in proptest::collection::vec((0_usize..8, 0_usize..8), 0..14)) {
            let set = set(&edges, 8);
            // Reference: follow the edges eight times from each path.
            let mut reach: Vec<Vec<bool>> = vec![vec![false; 8]; 8];
            for &(from, to) in &edges { if from != to { reach[from][to] = true; } }
            for middle in 0..8 { for from in 0..8 { for to in 0..8 {
                if reach[from][middle] && reach[middle][to] { reach[from][to] = true; }
            }}}
            let expected = (0..8).any(|node| reach[node][node]);
            prop_assert_eq!(find_cycle(&set).is_some(), expected);
            if let Some((to, from)) = find_cycle(&set) {
                let number = |path: &StorePath| path.base_name()[..32].parse::<usize>().unwrap();
                prop_assert!(edges.contains(&(number(from), number(to))));
                prop_assert!(reach[number(to)][number(to)]);
            }
        }
    }
}
