//! Which outputs those who share a goal want of it (S1).

use std::sync::{Mutex, PoisonError};

use kiln_store_path::OutputsSpec;

/// The wanted set of a running goal: it can be widened until the goal has decided.
#[derive(Debug)]
pub(crate) struct Wanted(Mutex<State>);

#[derive(Debug)]
struct State {
    outputs: OutputsSpec,
    /// The goal has ended well for just these outputs; who wants others needs another goal.
    decided: bool,
}

impl Wanted {
    pub(crate) fn new(outputs: OutputsSpec) -> Self {
        Self(Mutex::new(State { outputs, decided: false }))
    }

    /// Wants these outputs, too; `false` if the goal can no longer give them.
    pub(crate) fn widen(&self, outputs: &OutputsSpec) -> bool {
        self.with(|state| {
            if state.decided {
                return state.outputs.covers(outputs);
            }
            let wider = std::mem::replace(&mut state.outputs, OutputsSpec::All).union(outputs);
            state.outputs = wider;
            true
        })
    }

    /// What is wanted at this moment.
    pub(crate) fn outputs(&self) -> OutputsSpec {
        self.with(|state| state.outputs.clone())
    }

    /// From here on all outputs are wanted, whoever asks for which (D4).
    pub(crate) fn want_all(&self) {
        self.with(|state| state.outputs = OutputsSpec::All);
    }

    /// Decides that the goal is done, unless more than `outputs` is wanted by now.
    pub(crate) fn decide(&self, outputs: &OutputsSpec) -> bool {
        self.with(|state| {
            state.decided = outputs.covers(&state.outputs);
            state.decided
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_store_path::OutputName;

    fn names(names: &[&str]) -> OutputsSpec {
        OutputsSpec::Names(names.iter().map(|name| OutputName::new(name).unwrap()).collect())
    }

    #[test]
    fn s1_a_running_goal_is_widened() {
        let wanted = Wanted::new(names(&["out"]));
        assert!(wanted.widen(&names(&["dev"])));
        assert!(!wanted.decide(&names(&["out"])), "more is wanted by now: look again");
        assert!(wanted.decide(&names(&["dev", "out"])));
    }

    #[test]
    fn s1_a_decided_goal_gives_what_it_has() {
        let wanted = Wanted::new(names(&["dev", "out"]));
        assert!(wanted.decide(&names(&["dev", "out"])));
        assert!(wanted.widen(&names(&["out"])));
        assert!(!wanted.widen(&names(&["man"])) && !wanted.widen(&OutputsSpec::All));
    }
}
