//! When a server that fails is left alone, and when it is asked again.
//!
//! Many ask one server for many things at once. When it has gone, each of them would wait for it in vain, and then try
//! again. A [`Breaker`] remembers for all of them: after a failure that says enough, or after several in a row, the server
//! rests, and whoever would ask it is refused at once. After the rest, one of them asks as a probe, and only if that goes
//! well do the others follow; otherwise the next rest is longer.

use std::time::Duration;

/// How patient a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How many failures in a row make the server rest, unless one of them says that it is not there at all.
    pub failures: u32,
    /// The first rest; each one after it, without a success in between, is twice as long ...
    pub rest: Duration,
    /// ... up to this.
    pub longest_rest: Duration,
}

impl Default for BreakerPolicy {
    /// Four failures, a minute, ten minutes.
    fn default() -> Self {
        Self { failures: 4, rest: Duration::from_secs(60), longest_rest: Duration::from_secs(600) }
    }
}

/// The answer to whoever wants to ask the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead.
    Ordinary,
    /// Go ahead, and all others wait for what comes of it.
    Probe,
    /// The server rests until then; or a little longer, if a probe is under way.
    Refused {
        /// Time by the caller's clock.
        until: Duration,
    },
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server gave an answer, whatever it was.
    Answered,
    /// The server failed with this; it may do better with something else.
    Faulty,
    /// There is no server, or it says nothing.
    Unreachable,
    /// Nobody wanted to know any more.
    GivenUp,
}

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Whoever wants to.
    Closed,
    /// Nobody before this time by the caller's clock; then one.
    Resting {
        /// When.
        until: Duration,
    },
    /// One asks, and others wait for what comes of it.
    Probing {
        /// Since when.
        since: Duration,
    },
}

/// Remembers how one server fares. Times are those of any clock that does not go back.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    /// Failures in a row while closed.
    failures: u32,
    /// Rests in a row.
    rests: u32,
}

impl Breaker {
    /// For a server of which nothing is known.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed, failures: 0, rests: 0 }
    }

    /// Whether the server is asked at the moment.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Somebody wants to ask the server. Whoever is not refused tells [`ended`](Self::ended) what came of it.
    pub fn ask(&mut self, now: Duration) -> Admission {
        match self.state {
            BreakerState::Closed => Admission::Ordinary,
            BreakerState::Resting { until } if now < until => Admission::Refused { until },
            BreakerState::Resting { .. } => {
                self.state = BreakerState::Probing { since: now };
                Admission::Probe
            }
            BreakerState::Probing { .. } => Admission::Refused { until: now },
        }
    }

    /// What came of asking with an admission.
    pub fn ended(&mut self, admission: Admission, outcome: Outcome, now: Duration) {
        match (admission, outcome) {
            (Admission::Refused { .. }, _) | (Admission::Ordinary, Outcome::GivenUp) => {}
            // Also of those who were admitted before the rest: the server is there.
            (_, Outcome::Answered) => {
                self.state = BreakerState::Closed;
                self.failures = 0;
                self.rests = 0;
            }
            (Admission::Probe, Outcome::GivenUp) => self.state = BreakerState::Resting { until: now },
            (Admission::Probe, Outcome::Faulty | Outcome::Unreachable) => self.start_rest(now),
            (Admission::Ordinary, _) if self.state != BreakerState::Closed => {}
            (Admission::Ordinary, Outcome::Unreachable) => self.start_rest(now),
            (Admission::Ordinary, Outcome::Faulty) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.policy.failures {
                    self.start_rest(now);
                }
            }
        }
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        *self = Self::new(self.policy);
    }

    fn start_rest(&mut self, now: Duration) {
        let factor = 1_u32.checked_shl(self.rests).unwrap_or(u32::MAX);
        let rest = self.policy.rest.saturating_mul(factor).min(self.policy.longest_rest);
        self.state = BreakerState::Resting { until: now.saturating_add(rest) };
        self.rests = self.rests.saturating_add(1);
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy { failures: 3, rest: seconds(60), longest_rest: seconds(200) })
    }

    #[test]
    fn a_server_that_is_not_there_rests_at_once() {
        let mut breaker = breaker();
        let admission = breaker.ask(seconds(1));
        assert_eq!(admission, Admission::Ordinary);
        breaker.ended(admission, Outcome::Unreachable, seconds(5));
        assert_eq!(breaker.ask(seconds(64)), Admission::Refused { until: seconds(65) });
        assert_eq!(breaker.ask(seconds(65)), Admission::Probe);
        assert_eq!(breaker.ask(seconds(66)), Admission::Refused { until: seconds(66) });
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let mut breaker = breaker();
        for outcome in [Outcome::Faulty, Outcome::Faulty, Outcome::Answered, Outcome::Faulty, Outcome::Faulty]
        {
            breaker.ended(Admission::Ordinary, outcome, seconds(0));
            assert_eq!(breaker.state(), BreakerState::Closed);
        }
        breaker.ended(Admission::Ordinary, Outcome::Faulty, seconds(0));
        assert_eq!(breaker.state(), BreakerState::Resting { until: seconds(60) });
    }

    #[test]
    fn rests_grow_and_end_with_an_answer() {
        let mut breaker = breaker();
        breaker.ended(Admission::Ordinary, Outcome::Unreachable, seconds(0));
        let mut now = seconds(0);
        for rest in [60, 120, 200, 200] {
            assert_eq!(breaker.state(), BreakerState::Resting { until: now + seconds(rest) });
            now += seconds(rest);
            assert_eq!(breaker.ask(now), Admission::Probe);
            breaker.ended(Admission::Probe, Outcome::Faulty, now);
        }
        now += seconds(200);
        let probe = breaker.ask(now);
        breaker.ended(probe, Outcome::Answered, now);
        assert_eq!(breaker.ask(now), Admission::Ordinary);
        breaker.ended(Admission::Ordinary, Outcome::Unreachable, now);
        assert_eq!(
            breaker.state(),
            BreakerState::Resting { until: now + seconds(60) },
            "it is the first again"
        );
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_the_place_to_the_next() {
        let mut breaker = breaker();
        breaker.ended(Admission::Ordinary, Outcome::Unreachable, seconds(0));
        assert_eq!(breaker.ask(seconds(60)), Admission::Probe);
        breaker.ended(Admission::Probe, Outcome::GivenUp, seconds(61));
        assert_eq!(breaker.ask(seconds(61)), Admission::Probe);
    }

    #[test]
    fn those_who_fail_late_do_not_prolong_the_rest() {
        let mut breaker = breaker();
        for now in 0..20 {
            breaker.ended(Admission::Ordinary, Outcome::Unreachable, seconds(now));
        }
        assert_eq!(breaker.state(), BreakerState::Resting { until: seconds(60) });
        breaker.ended(Admission::Ordinary, Outcome::Answered, seconds(21));
        assert_eq!(breaker.ask(seconds(22)), Admission::Ordinary, "it is there after all");
    }

    /// A thousand paths are wanted each second, for an hour, from a server that says nothing for ten seconds.
    #[test]
    fn a_dead_server_costs_little() {
        let mut breaker = Breaker::new(BreakerPolicy::default());
        let mut asked = 0;
        let mut waiting: Vec<(Duration, Admission)> = Vec::new();
        for second in 0..3600 {
            let now = seconds(second);
            for (_, admission) in waiting.extract_if(.., |(end, _)| *end <= now) {
                breaker.ended(admission, Outcome::Unreachable, now);
            }
            for _ in 0..1000 {
                match breaker.ask(now) {
                    Admission::Refused { .. } => {}
                    admission => {
                        asked += 1;
                        waiting.push((now + seconds(10), admission));
                    }
                }
            }
        }
        // Those of the first ten seconds are what a limit of connections is for; after them there are but probes.
        assert!(asked <= 10_000 + 9, "{asked}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask,
        End(prop::sample::Index, Outcome),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop::sample::select(vec![
            Outcome::Answered,
            Outcome::Faulty,
            Outcome::Unreachable,
            Outcome::GivenUp,
        ]);
        prop_oneof![
            Just(Step::Ask),
            (any::<prop::sample::Index>(), outcome).prop_map(|(index, outcome)| Step::End(index, outcome)),
            (0_u64..300).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn there_is_one_probe_at_a_time_and_a_way_back(steps in prop::collection::vec(step(), 0..200)) {
            let mut breaker = breaker();
            let (mut now, mut admitted) = (seconds(0), Vec::new());
            for step in steps {
                match step {
                    Step::Wait(length) => now += seconds(length),
                    Step::Ask => match breaker.ask(now) {
                        Admission::Refused { until } => prop_assert!(until >= now && until <= now + seconds(200)),
                        admission => admitted.push(admission),
                    },
                    Step::End(index, outcome) if !admitted.is_empty() => {
                        let admission = admitted.swap_remove(index.index(admitted.len()));
                        breaker.ended(admission, outcome, now);
                    }
                    Step::End(..) => {}
                }
                let probes = admitted.iter().filter(|admission| **admission == Admission::Probe).count();
                if matches!(breaker.state(), BreakerState::Probing { .. }) {
                    prop_assert!(probes >= 1);
                }
            }
            for admission in admitted {
                breaker.ended(admission, Outcome::GivenUp, now);
            }
            now += seconds(200);
            let is_refused = matches!(breaker.ask(now), Admission::Refused { .. });
            prop_assert!(!is_refused);
        }
    }
}
