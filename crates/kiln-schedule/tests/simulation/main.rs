//! Whole requests in virtual time: graphs of goals run through the scheduler, and everything that it promises is looked
//! at after each of its steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod graph;
mod simulator;

use graph::{Goal, Graph};
use kiln_schedule::{JobKind, Priority, Slots, Urgency};
use proptest::prelude::*;
use simulator::{Outcome, Simulation};
use std::time::Duration;

const SLOTS: Slots = Slots { builds: 8, substitutions: 16 };

/// S14: a graph of a hundred thousand goals, and smaller ones of the same shape. For each of the scheduler's steps the
/// comparisons are counted, which an ordered tree needs no more than a few of for each doubling of its size.
fn scales(shape: impl Fn(usize) -> Graph) {
    for goals in [1_000, 100_000] {
        let outcome = Simulation::new(&shape(goals), SLOTS).one_by_one().run();
        assert_eq!(outcome.finished.len(), goals);
        assert!(
            outcome.most_comparisons <= logarithmic(goals),
            "{goals} goals: {}",
            outcome.most_comparisons
        );
        assert_eq!(outcome.told, 2 * goals, "a goal is submitted and finished, and that is all");
    }
}

/// Comparisons to find a place among so many in a B-tree whose nodes have 5 to 11 entries: as many as a node has on each
/// level. Two more are for choosing between queues.
fn logarithmic(waiting: usize) -> u64 {
    let levels = 1 + (waiting as f64).log(6.0).ceil() as u64;
    11 * levels + 2
}

#[test]
fn s14_a_hundred_thousand_goals_at_once() {
    scales(Graph::wide);
}

#[test]
fn s14_a_hundred_thousand_goals_one_after_another() {
    scales(Graph::chain);
}

#[test]
fn s14_a_hundred_thousand_goals_in_layers() {
    scales(|goals| Graph::layered(goals, 500, 3));
}

#[test]
fn s14_a_hundred_thousand_goals_that_wait_for_one_and_are_waited_for_by_one() {
    scales(Graph::diamond);
}

/// The last of a hundred thousand that gives up waiting costs as little as the first.
#[test]
fn s14_giving_up_is_as_cheap_as_waiting() {
    let outcome = Simulation::new(&Graph::wide(100_000), SLOTS).cancel_after(50_000).run();
    assert_eq!((outcome.finished.len(), outcome.cancelled), (50_000, 50_000));
    assert!(outcome.most_comparisons <= logarithmic(100_000), "{}", outcome.most_comparisons);
}

/// The comparisons are really counted: a wide graph can't do without them.
#[test]
fn s14_comparisons_are_counted() {
    let outcome = Simulation::new(&Graph::wide(10_000), SLOTS).run();
    assert!(outcome.comparisons > 10_000 * 5, "{}", outcome.comparisons);
    let chain = Simulation::new(&Graph::chain(10_000), SLOTS).run();
    assert_eq!(chain.comparisons, 0, "nothing ever waits beside anything else");
}

/// Whatever the numbers of goals that become ready together, they start by name and path.
#[test]
fn s3_ready_goals_start_by_name_then_path() {
    let goal = |name: &str, path: &str| Goal { inputs: vec![0], ..Goal::build(name, path, 1) };
    let first = Goal::build("zzz", "first", 1);
    let goals = vec![first, goal("b", "1"), goal("a", "2"), goal("c", "0"), goal("a", "1")];
    let outcome = Simulation::new(&Graph { goals }, Slots { builds: 1, substitutions: 1 }).run();
    assert_eq!(outcome.started, [0, 4, 2, 1, 3]);
}

/// A long chain of late names beside many short goals with early ones: by names the chain would come last.
fn chain_beside_many() -> Graph {
    let chain = (0..10).map(|number| Goal {
        inputs: if number == 0 { vec![] } else { vec![number - 1] },
        ..Goal::build(&format!("z{number}"), "z", 10)
    });
    let others = (0..10).map(|number| Goal::build(&format!("a{number}"), "a", 10));
    Graph { goals: chain.chain(others).collect() }
}

#[test]
fn s3_the_critical_path_changes_times_and_nothing_else() {
    let graph = chain_beside_many();
    let slots = Slots { builds: 2, substitutions: 1 };
    let plain = Simulation::new(&graph, slots).run();
    let remaining = graph.remaining();
    let urgent = Simulation::new(&graph, slots)
        .priorities(|goal, priority| {
            let remaining = Duration::from_secs(remaining[goal]);
            priority.with_urgency(Urgency { remaining, dependents: 0 })
        })
        .run();
    assert_eq!((plain.makespan, urgent.makespan), (150, 100));
    assert_eq!(sorted(plain), sorted(urgent));
}

fn sorted(mut outcome: Outcome) -> Vec<usize> {
    outcome.finished.sort_unstable();
    outcome.finished
}

/// S4, S11: without slots only local builds run, one at a time; what remains is stuck.
#[test]
fn s4_without_slots_local_builds_run_one_at_a_time() {
    let mut goals = Graph::layered(1_000, 100, 2).goals;
    for (number, goal) in goals.iter_mut().enumerate() {
        goal.kind = if number % 10 == 0 { JobKind::Build } else { JobKind::LocalBuild };
        goal.inputs.retain(|input| input % 10 != 0);
    }
    let work: u64 =
        goals.iter().filter(|goal| goal.kind == JobKind::LocalBuild).map(|goal| goal.duration).sum();
    let outcome = Simulation::new(&Graph { goals }, Slots { builds: 0, substitutions: 1 }).run();
    assert!(outcome.stuck);
    assert_eq!((outcome.finished.len(), outcome.makespan), (900, work));
}

/// With `keep-going` exactly what depends on a failure isn't run.
#[test]
fn s5_what_does_not_depend_on_a_failure_is_run() {
    let graph = Graph::layered(10_000, 200, 2);
    let fails = |goal: usize| goal % 977 == 5;
    let outcome = Simulation::new(&graph, SLOTS).failing(fails).run();
    let mut without_failure = vec![true; graph.goals.len()];
    let mut expected = Vec::new();
    for (number, goal) in graph.goals.iter().enumerate() {
        let runs = goal.inputs.iter().all(|input| without_failure[*input]);
        without_failure[number] = runs && !fails(number);
        expected.extend(runs.then_some(number));
    }
    assert!(expected.len() < graph.goals.len());
    assert_eq!(sorted(outcome), expected);
}

fn kinds() -> impl Strategy<Value = JobKind> {
    prop::sample::select(&[JobKind::Build, JobKind::LocalBuild, JobKind::Substitution][..])
}

/// Any graph: inputs are among the goals before.
fn graphs() -> impl Strategy<Value = Graph> {
    let inputs = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let goal = (0..4_u8, 0..9_u8, kinds(), 0..20_u64, inputs);
    prop::collection::vec(goal, 1..80).prop_map(|goals| {
        let goals = goals.into_iter().enumerate().map(|(number, (name, path, kind, duration, inputs))| {
            let mut inputs: Vec<_> =
                inputs.iter().filter(|_| number > 0).map(|at| at.index(number.max(1))).collect();
            inputs.sort_unstable();
            inputs.dedup();
            Goal { kind, inputs, ..Goal::build(&format!("n{name}"), &format!("p{path}"), duration) }
        });
        Graph { goals: goals.collect() }
    })
}

proptest! {
    /// Everything that [`Simulation`] checks, and: the order depends on nothing but the graph.
    #[test]
    fn any_graph_runs_as_promised(graph in graphs(), builds in 1..5_usize, substitutions in 0..4_usize) {
        let slots = Slots { builds, substitutions };
        let outcome = Simulation::new(&graph, slots).run();
        prop_assert_eq!(outcome.finished.len(), graph.goals.len());
        let one_by_one = Simulation::new(&graph, slots).one_by_one().run();
        prop_assert_eq!(sorted(one_by_one), (0..graph.goals.len()).collect::<Vec<_>>());
        prop_assert_eq!(Simulation::new(&graph, slots).run().started, outcome.started);
    }

    #[test]
    fn any_graph_can_be_given_up(graph in graphs(), builds in 0..3_usize, after in 0..80_usize) {
        let slots = Slots { builds, substitutions: 1 };
        let outcome = Simulation::new(&graph, slots).cancel_after(after).run();
        prop_assert!(outcome.finished.len() <= after.max(1));
    }

    #[test]
    fn any_order_runs_everything(graph in graphs(), urgencies in prop::collection::vec(0..5_u64, 80)) {
        let urgent = |goal: usize, priority: Priority| {
            priority.with_urgency(Urgency { remaining: Duration::ZERO, dependents: urgencies[goal] })
        };
        let outcome = Simulation::new(&graph, Slots { builds: 2, substitutions: 1 }).priorities(urgent).run();
        prop_assert_eq!(outcome.finished.len(), graph.goals.len());
    }
}
