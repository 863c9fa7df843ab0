//! Runs a graph through the scheduler in virtual time, and checks it against a plain model of what waits and runs.

use crate::graph::Graph;
use kiln_schedule::{Job, JobId, JobKind, Priority, Scheduler, Slots};
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeSet;

thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// A priority that counts how often one was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted(Priority);

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What came out of a simulation.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Goals in the order of their starts.
    pub(crate) started: Vec<usize>,
    /// Goals in the order of their ends, failed ones among them.
    pub(crate) finished: Vec<usize>,
    /// Goals that were given up.
    pub(crate) cancelled: usize,
    /// When the last goal ended.
    pub(crate) makespan: u64,
    /// Whether builds were left that could never start.
    pub(crate) stuck: bool,
    /// How often the scheduler was told of a job.
    pub(crate) told: usize,
    /// Comparisons of priorities in all calls.
    pub(crate) comparisons: u64,
    /// The most comparisons that a call took for each job that it told of, less one for each that it started.
    pub(crate) most_comparisons: u64,
}

/// What has become of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many inputs are missing.
    Missing(usize),
    Waiting,
    Running,
    Finished,
}

/// The way of a graph through the scheduler.
pub(crate) struct Simulation<'a> {
    graph: &'a Graph,
    slots: Slots,
    scheduler: Scheduler<Counted>,
    priorities: Vec<Priority>,
    fails: Box<dyn Fn(usize) -> bool>,
    cancel_after: usize,
    one_by_one: bool,
    states: Vec<State>,
    /// The model: what waits, by the kinds of [`queue`], in the order in which it must start.
    waiting: [BTreeSet<(Priority, usize)>; 3],
    /// What runs, by the time of its end.
    running: BTreeSet<(u64, usize)>,
    running_builds: usize,
    now: u64,
    outcome: Outcome,
}

/// Which of the model's queues is for jobs of a kind.
fn queue(kind: JobKind) -> usize {
    match kind {
        JobKind::Substitution => 0,
        JobKind::LocalBuild => 1,
        JobKind::Build => 2,
    }
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(graph: &'a Graph, slots: Slots) -> Self {
        let goals = graph.goals.iter();
        Self {
            graph,
            slots,
            scheduler: Scheduler::new(slots),
            priorities: goals.clone().map(|goal| Priority::plain(&*goal.name, &*goal.path)).collect(),
            fails: Box::new(|_| false),
            cancel_after: usize::MAX,
            one_by_one: false,
            states: goals.map(|goal| State::Missing(goal.inputs.len())).collect(),
            waiting: [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()],
            running: BTreeSet::new(),
            running_builds: 0,
            now: 0,
            outcome: Outcome {
                started: Vec::new(),
                finished: Vec::new(),
                cancelled: 0,
                makespan: 0,
                stuck: false,
                told: 0,
                comparisons: 0,
                most_comparisons: 0,
            },
        }
    }

    /// Changes the priorities.
    pub(crate) fn priorities(mut self, change: impl Fn(usize, Priority) -> Priority) -> Self {
        self.priorities =
            self.priorities.into_iter().enumerate().map(|(goal, plain)| change(goal, plain)).collect();
        self
    }

    /// Makes goals fail.
    pub(crate) fn failing(mut self, fails: impl Fn(usize) -> bool + 'static) -> Self {
        self.fails = Box::new(fails);
        self
    }

    /// Gives up when so many goals have finished.
    pub(crate) fn cancel_after(mut self, finished: usize) -> Self {
        self.cancel_after = finished;
        self
    }

    /// Submits each goal alone, also those that become ready together.
    pub(crate) fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    pub(crate) fn run(mut self) -> Outcome {
        let dependents = self.graph.dependents();
        self.submit(
            (0..self.graph.goals.len()).filter(|goal| self.states[*goal] == State::Missing(0)).collect(),
        );
        while self.outcome.finished.len() < self.cancel_after {
            let Some((end, goal)) = self.running.pop_first() else { break };
            self.now = end;
            self.finish(goal);
            if !(self.fails)(goal) {
                let ready =
                    dependents[goal].iter().filter(|dependent| self.has_all_inputs(**dependent)).copied();
                let ready = ready.collect();
                self.submit(ready);
            }
        }
        self.outcome.makespan = self.now;
        if self.outcome.finished.len() >= self.cancel_after {
            self.cancel();
        }
        self.check_end();
        self.outcome
    }

    /// One more input of a goal is there; whether it was the last.
    fn has_all_inputs(&mut self, goal: usize) -> bool {
        let State::Missing(missing) = self.states[goal] else { panic!("{goal} didn't wait for its inputs") };
        self.states[goal] = State::Missing(missing - 1);
        missing == 1
    }

    /// Goals have become ready.
    fn submit(&mut self, goals: Vec<usize>) {
        let together = if self.one_by_one { 1 } else { goals.len().max(1) };
        for goals in goals.chunks(together) {
            self.submit_together(goals);
        }
    }

    fn submit_together(&mut self, goals: &[usize]) {
        let mut jobs = Vec::new();
        for &goal in goals {
            self.states[goal] = State::Waiting;
            let (kind, priority) = (self.graph.goals[goal].kind, self.priorities[goal].clone());
            self.waiting[queue(kind)].insert((priority.clone(), goal));
            jobs.push(Job { id: goal as JobId, kind, priority: Counted(priority) });
        }
        self.step(jobs.len(), |scheduler| scheduler.submit_all(jobs));
    }

    /// A goal that was running has ended.
    fn finish(&mut self, goal: usize) {
        assert_eq!(self.states[goal], State::Running);
        self.states[goal] = State::Finished;
        self.outcome.finished.push(goal);
        self.running_builds -= usize::from(self.graph.goals[goal].kind != JobKind::Substitution);
        self.step(1, |scheduler| scheduler.finish(goal as JobId));
    }

    /// Gives everything up: what waits last, since it starts when something else ends.
    fn cancel(&mut self) {
        while let Some(goal) = self.latest() {
            if self.states[goal] == State::Running {
                self.running_builds -= usize::from(self.graph.goals[goal].kind != JobKind::Substitution);
                self.running.retain(|(_, running)| *running != goal);
            }
            self.states[goal] = State::Finished;
            self.outcome.cancelled += 1;
            self.step(1, |scheduler| scheduler.finish(goal as JobId));
        }
    }

    /// Of what waits and runs, something that waits, if there is anything, and as far back in the queue as possible.
    fn latest(&mut self) -> Option<usize> {
        let waiting = self.waiting.iter_mut().rev().find_map(BTreeSet::pop_last).map(|(_, goal)| goal);
        waiting.or_else(|| self.running.first().map(|(_, goal)| *goal))
    }

    /// One step of the scheduler, which tells it of so many jobs, and whether it was right.
    fn step(&mut self, jobs: usize, step: impl FnOnce(&mut Scheduler<Counted>) -> Vec<JobId>) {
        let before = COMPARISONS.get();
        let started = step(&mut self.scheduler);
        let comparisons = COMPARISONS.get() - before;
        self.outcome.told += jobs;
        self.outcome.comparisons += comparisons;
        // Those for the jobs that it started are the scheduler's choices between two queues.
        let each = comparisons.saturating_sub(started.len() as u64).div_ceil(jobs as u64);
        self.outcome.most_comparisons = self.outcome.most_comparisons.max(each);
        let mut builds = false;
        for id in started {
            let goal = usize::try_from(id).unwrap();
            let substitution = self.graph.goals[goal].kind == JobKind::Substitution;
            assert!(!(builds && substitution), "substitutions start before builds");
            builds |= !substitution;
            self.start(goal);
        }
        self.check_slots();
    }

    /// The scheduler has started a goal.
    fn start(&mut self, goal: usize) {
        assert_eq!(self.states[goal], State::Waiting, "{goal} starts once, when its inputs are there");
        let kind = self.graph.goals[goal].kind;
        let place = (self.priorities[goal].clone(), goal);
        let rivals: &[usize] = match kind {
            JobKind::Substitution => &[0],
            // Without slots builds that aren't local can't be rivals.
            _ if self.slots.builds == 0 => &[1],
            _ => &[1, 2],
        };
        let first = rivals.iter().filter_map(|rival| self.waiting[*rival].first()).min();
        assert_eq!(first, Some(&place), "the least priority starts first");
        self.waiting[queue(kind)].remove(&place);
        self.states[goal] = State::Running;
        self.outcome.started.push(goal);
        self.running.insert((self.now + self.graph.goals[goal].duration, goal));
        self.running_builds += usize::from(kind != JobKind::Substitution);
    }

    /// No slot is given twice, and none is free while something waits for it.
    fn check_slots(&self) {
        let substitutions = self.running.len() - self.running_builds;
        let slots = self.slots.substitutions.max(1);
        assert!(substitutions <= slots);
        assert!(
            substitutions == slots || self.waiting[0].is_empty(),
            "a substitution waits beside a free slot"
        );
        let local = usize::from(self.slots.builds == 0);
        assert!(self.running_builds <= self.slots.builds + local);
        let full = self.running_builds == self.slots.builds + local;
        assert!(full || self.waiting[1].is_empty(), "a local build waits beside a free slot");
        assert!(full || local == 1 || self.waiting[2].is_empty(), "a build waits beside a free slot");
        let waiting: usize = self.waiting.iter().map(BTreeSet::len).sum();
        assert_eq!((self.scheduler.running(), self.scheduler.waiting()), (self.running.len(), waiting));
        assert_eq!(self.scheduler.is_stuck(), self.running.is_empty() && waiting > 0);
    }

    /// Nobody starves: what can run has run, and soon enough.
    fn check_end(&mut self) {
        self.outcome.stuck = self.scheduler.is_stuck();
        assert!(self.running.is_empty());
        assert!(self.waiting[0].is_empty() && self.waiting[1].is_empty());
        assert!(self.waiting[2].is_empty() || self.slots.builds == 0);
        // At any time all slots of a pool are used, or the last chain of goals goes on.
        let builds = self.graph.work(|kind| kind != JobKind::Substitution);
        let substitutions = self.graph.work(|kind| kind == JobKind::Substitution);
        let longest = self.graph.remaining().into_iter().max().unwrap_or(0);
        let bound = builds.div_ceil(self.slots.builds.max(1) as u64)
            + substitutions.div_ceil(self.slots.substitutions.max(1) as u64)
            + longest;
        assert!(self.outcome.makespan <= bound, "{} > {bound}", self.outcome.makespan);
    }
}
