//! How much waits for each job of a graph that is found out bit by bit, from what is wanted down to what it needs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::priority::Urgency;

/// Most jobs that are looked at again because one was added. Beyond that estimates stay too low, which costs time to nobody
/// but those who wait for a graph that is made for it.
const LARGEST_CHANGE: usize = 4_096;

/// Jobs, how long they take, and what they need: jobs again, some of which may not be known yet or never will be.
///
/// To add one costs O(n), n being the number of what it needs and of all below it for which it is the longest way.
#[derive(Debug)]
pub struct CriticalPaths<K> {
    nodes: HashMap<K, Node<K>>,
}

#[derive(Debug)]
struct Node<K> {
    /// How long it takes itself.
    takes: Duration,
    /// Longest time from its end to the end of all that waits for it.
    after: Duration,
    /// Jobs that need it.
    dependents: u64,
    needs: Arc<[K]>,
    /// Jobs that need nothing else any more.
    last_for: HashSet<K>,
    /// How often it was added.
    added: u64,
}

impl<K> Default for CriticalPaths<K> {
    fn default() -> Self {
        Self { nodes: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone> CriticalPaths<K> {
    /// Adds a job that takes so long and needs others, or says so anew. Answers with those of which more is waiting now than
    /// before.
    pub fn add(&mut self, job: &K, takes: Duration, needs: Arc<[K]>) -> Vec<K> {
        for need in needs.iter() {
            self.node(need).dependents += 1;
        }
        let node = self.node(job);
        node.added += 1;
        node.takes = takes;
        node.needs = needs;
        self.spread(job)
    }

    /// Forgets a job that has ended, or that nobody wants any more, which was added with these needs; as often as it was added.
    pub fn remove(&mut self, job: &K, needs: &[K]) {
        let Some(node) = self.nodes.get_mut(job) else { return };
        node.added = node.added.saturating_sub(1);
        for need in needs {
            if let Some(node) = self.nodes.get_mut(need) {
                node.dependents = node.dependents.saturating_sub(1);
                node.last_for.remove(job);
            }
            self.forget_if_unused(need);
        }
        self.forget_if_unused(job);
    }

    /// A job needs only this one any more.
    pub fn needs_only(&mut self, job: &K, need: &K) {
        if let Some(node) = self.nodes.get_mut(need) {
            node.last_for.insert(job.clone());
        }
    }

    /// The jobs that can begin when this one has ended, in any order.
    pub fn ready_after(&self, job: &K) -> Vec<K> {
        self.nodes.get(job).map_or(Vec::new(), |node| node.last_for.iter().cloned().collect())
    }

    /// How much waits for a job.
    pub fn urgency(&self, job: &K) -> Urgency {
        self.nodes.get(job).map_or(Urgency::default(), |node| Urgency {
            remaining: node.takes.saturating_add(node.after),
            dependents: node.dependents,
        })
    }

    fn node(&mut self, job: &K) -> &mut Node<K> {
        self.nodes.entry(job.clone()).or_insert_with(|| Node {
            takes: Duration::ZERO,
            after: Duration::ZERO,
            dependents: 0,
            needs: Arc::default(),
            last_for: HashSet::new(),
            added: 0,
        })
    }

    /// Tells what a job needs how much waits for that now, and so on down.
    fn spread(&mut self, job: &K) -> Vec<K> {
        let mut changed = Vec::new();
        let mut queue = VecDeque::from([job.clone()]);
        while let Some(job) = queue.pop_front().filter(|_| changed.len() < LARGEST_CHANGE) {
            let Some(node) = self.nodes.get(&job) else { continue };
            let (remaining, needs) = (node.takes.saturating_add(node.after), Arc::clone(&node.needs));
            for need in needs.iter() {
                let Some(node) = self.nodes.get_mut(need).filter(|node| node.after < remaining) else {
                    continue;
                };
                node.after = remaining;
                changed.push(need.clone());
                queue.push_back(need.clone());
            }
        }
        changed
    }

    fn forget_if_unused(&mut self, job: &K) {
        if self.nodes.get(job).is_some_and(|node| node.added == 0 && node.dependents == 0) {
            self.nodes.remove(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn add(paths: &mut CriticalPaths<u32>, job: u32, takes: u64, needs: &[u32]) -> Vec<u32> {
        paths.add(&job, seconds(takes), Arc::from(needs))
    }

    #[test]
    fn s3_the_longest_way_to_the_end_counts() {
        let mut paths = CriticalPaths::default();
        assert_eq!(add(&mut paths, 0, 1, &[1, 2]), [1, 2]);
        assert_eq!(add(&mut paths, 1, 5, &[3]), [3]);
        assert_eq!(add(&mut paths, 3, 2, &[]), []);
        assert_eq!(paths.urgency(&3), Urgency { remaining: seconds(8), dependents: 1 });
        assert_eq!(add(&mut paths, 2, 1, &[3]), [], "the other way is longer");
        assert_eq!(paths.urgency(&3), Urgency { remaining: seconds(8), dependents: 2 });
        assert_eq!(add(&mut paths, 9, 10, &[1]), [1, 3], "of another request");
        assert_eq!(paths.urgency(&3).remaining, seconds(17));
        assert_eq!(paths.urgency(&9), Urgency { remaining: seconds(10), dependents: 0 });
        assert_eq!(paths.urgency(&7), Urgency::default());
    }

    #[test]
    fn s3_what_is_over_is_forgotten() {
        let mut paths = CriticalPaths::default();
        add(&mut paths, 0, 1, &[1]);
        add(&mut paths, 1, 1, &[2]);
        add(&mut paths, 1, 1, &[2]);
        add(&mut paths, 1, 0, &[7]);
        for (job, needs) in [(1, &[2]), (0, &[1]), (1, &[7]), (1, &[2])] {
            assert!(!paths.nodes.is_empty());
            paths.remove(&job, needs);
        }
        assert!(paths.nodes.is_empty(), "{paths:?}");
        paths.remove(&5, &[1]);
    }

    #[test]
    fn s3_it_is_known_what_becomes_ready() {
        let mut paths = CriticalPaths::default();
        add(&mut paths, 0, 1, &[2, 3]);
        add(&mut paths, 1, 1, &[3]);
        paths.needs_only(&1, &3);
        assert_eq!((paths.ready_after(&2), paths.ready_after(&3)), (vec![], vec![1]));
        paths.needs_only(&0, &3);
        assert_eq!(BTreeSet::from_iter(paths.ready_after(&3)), BTreeSet::from([0, 1]));
        paths.remove(&1, &[3]);
        assert_eq!(paths.ready_after(&3), [0]);
        paths.remove(&0, &[2, 3]);
        assert!(paths.nodes.is_empty());
        paths.needs_only(&0, &3);
        assert!(paths.ready_after(&3).is_empty());
    }

    #[test]
    fn s3_a_graph_made_to_be_dear_ends() {
        let mut paths = CriticalPaths::default();
        // From the bottom up, so that each new job makes everything below it more urgent.
        let count = 400;
        for job in (0..count).rev() {
            let needs: Vec<u32> = (job + 1..count.min(job + 40)).collect();
            add(&mut paths, job, 1, &needs);
        }
        assert!(paths.urgency(&(count - 1)).remaining > seconds(100));
    }

    proptest! {
        #[test]
        fn s3_whatever_the_order_of_discovery_the_estimate_is_the_longest_way(
            raw in proptest::collection::vec((0_u64..9, proptest::collection::btree_set(0_usize..20, 0..4)), 1..20),
            order in proptest::collection::vec(any::<u16>(), 20),
        ) {
            // Each needs only later ones.
            let needs: Vec<Vec<usize>> = raw
                .iter()
                .enumerate()
                .map(|(job, (_, needs))| needs.iter().copied().filter(|need| *need > job && *need < raw.len()).collect())
                .collect();
            let mut after = vec![0; raw.len()];
            for (job, needs) in needs.iter().enumerate() {
                for &need in needs {
                    after[need] = after[need].max(after[job] + raw[job].0);
                }
            }
            let mut jobs: Vec<usize> = (0..raw.len()).collect();
            jobs.sort_by_key(|job| order[*job]);
            let mut paths = CriticalPaths::default();
            for job in &jobs {
                paths.add(job, seconds(raw[*job].0), needs[*job].clone().into());
            }
            for job in 0..raw.len() {
                let dependents = needs.iter().filter(|needs| needs.contains(&job)).count() as u64;
                let remaining = seconds(raw[job].0 + after[job]);
                prop_assert_eq!(paths.urgency(&job), Urgency { remaining, dependents });
            }
            jobs.iter().for_each(|job| paths.remove(job, &needs[*job]));
            prop_assert!(paths.nodes.is_empty());
        }
    }
}
