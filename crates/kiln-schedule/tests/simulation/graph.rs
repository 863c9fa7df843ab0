//! Graphs of goals.

use kiln_schedule::JobKind;

/// Something to be done when its inputs are there.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) kind: JobKind,
    /// In any unit.
    pub(crate) duration: u64,
    /// Numbers of other goals, all less than its own.
    pub(crate) inputs: Vec<usize>,
}

impl Goal {
    /// A build without inputs.
    pub(crate) fn build(name: &str, path: &str, duration: u64) -> Self {
        Self { name: name.into(), path: path.into(), kind: JobKind::Build, duration, inputs: Vec::new() }
    }
}

/// Goals, each after its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) goals: Vec<Goal>,
}

impl Graph {
    /// Independent goals.
    pub(crate) fn wide(goals: usize) -> Self {
        Self::new(goals, |_, _| Vec::new())
    }

    /// Each goal is the next one's input.
    pub(crate) fn chain(goals: usize) -> Self {
        Self::new(goals, |number, _| number.checked_sub(1).into_iter().collect())
    }

    /// The first goal is the input of all, and all are the last one's.
    pub(crate) fn diamond(goals: usize) -> Self {
        Self::new(goals, |number, _| match number {
            0 => Vec::new(),
            last if last == goals - 1 => (0..last).collect(),
            _ => vec![0],
        })
    }

    /// Layers of `width` goals, each of which has up to `inputs` inputs of the layer before.
    pub(crate) fn layered(goals: usize, width: usize, inputs: usize) -> Self {
        Self::new(goals, |number, random| {
            let Some(before) = (number / width).checked_sub(1) else { return Vec::new() };
            let mut chosen: Vec<_> = (0..inputs).map(|_| before * width + random.below(width)).collect();
            chosen.sort_unstable();
            chosen.dedup();
            chosen
        })
    }

    /// Half of the goals are builds, a fourth local ones, a fourth substitutions.
    fn new(goals: usize, mut inputs: impl FnMut(usize, &mut Random) -> Vec<usize>) -> Self {
        let mut random = Random(goals as u64);
        let goals = (0..goals).map(|number| {
            // Names occur several times, paths too.
            let (name, path) = (random.below(1_000), random.below(50));
            let kind =
                [JobKind::Build, JobKind::Build, JobKind::LocalBuild, JobKind::Substitution][random.below(4)];
            let duration = 1 + random.below(100) as u64;
            let inputs = inputs(number, &mut random);
            Goal { kind, inputs, ..Goal::build(&format!("name-{name}"), &format!("path-{path}"), duration) }
        });
        Self { goals: goals.collect() }
    }

    /// For each goal, the goals that have it as an input.
    pub(crate) fn dependents(&self) -> Vec<Vec<usize>> {
        let mut dependents = vec![Vec::new(); self.goals.len()];
        for (number, goal) in self.goals.iter().enumerate() {
            goal.inputs.iter().for_each(|input| dependents[*input].push(number));
        }
        dependents
    }

    /// For each goal, the time from its start to the end of the last that waits for it, had everything a slot.
    pub(crate) fn remaining(&self) -> Vec<u64> {
        let dependents = self.dependents();
        let mut remaining = vec![0; self.goals.len()];
        for number in (0..self.goals.len()).rev() {
            let after = dependents[number].iter().map(|dependent| remaining[*dependent]).max();
            remaining[number] = self.goals[number].duration + after.unwrap_or(0);
        }
        remaining
    }

    /// The time that all goals take which `counts`.
    pub(crate) fn work(&self, counts: impl Fn(JobKind) -> bool) -> u64 {
        self.goals.iter().filter(|goal| counts(goal.kind)).map(|goal| goal.duration).sum()
    }
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
