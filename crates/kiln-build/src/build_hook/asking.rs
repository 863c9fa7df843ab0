//! Who asks the hook when: one build at a time, for as long as that makes sense.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_events::{EventSender, Verbosity};
use kiln_schedule::{JobKind, Priority, Slots};
use kiln_settings::Settings;
use kiln_store::blocking;

use super::conversation::{Accepted, ConversationError, Reply, ask};
use super::postponed::{Kind, Postponed};
use super::process::HookProcess;
use super::program::HookProgram;
use super::wire::HookInput;
use crate::error::Failure;
use crate::slots::{Slot, SlotPool, SlotsOfClient};

/// After so many hooks in a row that have not answered, no more are started.
const MOST_DEATHS: u32 = 5;

/// The build hook of an engine.
#[derive(Debug)]
pub(crate) struct BuildHook {
    program: Option<Arc<HookProgram>>,
    /// One slot, for the build that talks to the hook.
    turns: Arc<SlotsOfClient>,
    state: Mutex<State>,
    postponed: Postponed,
    interval: Duration,
    /// How much the hook tells; a [`Verbosity`] as a number.
    verbosity: AtomicU8,
}

#[derive(Debug, Default)]
struct State {
    /// A hook that was asked before and waits to be asked again.
    idle: Option<HookProcess>,
    /// It is not asked any more as long as there are requests.
    is_given_up: bool,
    /// Hooks in a row that have not answered.
    deaths: u32,
    requests: usize,
}

/// A build that is offered to the hook.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The derivation, as a full path.
    pub(crate) derivation: String,
    /// What the machine must be and have.
    pub(crate) kind: Kind,
    /// The build could be done here at once.
    pub(crate) willing: bool,
}

/// What comes of an offer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The hook has found a machine.
    Accepted(Box<Accepted>),
    /// The build is to be done here.
    Declined,
    /// The build is to be offered again.
    Postponed,
}

/// The right to talk to the hook.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    hook: &'a BuildHook,
    _slot: Slot,
}

/// A request that is under way: what is decided for requests is decided until the last one ends.
#[derive(Debug)]
pub(crate) struct Requested(Arc<BuildHook>);

impl BuildHook {
    /// The hook of these settings, which is not started yet.
    pub(crate) fn new(
        settings: &Settings,
        environment: &BTreeMap<Vec<u8>, Vec<u8>>,
        events: &EventSender,
    ) -> Arc<Self> {
        let program = HookProgram::of(settings, environment, |warning| events.warn(warning));
        Arc::new(Self {
            program: program.map(Arc::new),
            turns: SlotPool::new(Slots { builds: 1, substitutions: 1 }).owner(),
            state: Mutex::default(),
            postponed: Postponed::default(),
            interval: Duration::from_secs(settings.build_poll_interval.max(1)),
            verbosity: AtomicU8::new(Verbosity::default().number()),
        })
    }

    /// Says how much the hook is to tell. It does not change what one that runs already tells.
    pub(crate) fn set_verbosity(&self, verbosity: Verbosity) {
        self.verbosity.store(verbosity.number(), Ordering::Relaxed);
    }

    /// There are machines that builds could be sent to.
    pub(crate) fn has_machines(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.has_machines)
    }

    /// Whether there is anybody to ask.
    pub(crate) fn is_there(&self) -> bool {
        self.program.as_ref().is_some_and(|program| program.can_accept())
            && !self.with(|state| state.is_given_up)
    }

    /// Counts a request as long as the answer lives.
    pub(crate) fn request(self: &Arc<Self>) -> Requested {
        self.with(|state| state.requests += 1);
        Requested(Arc::clone(self))
    }

    /// Waits for the right to ask.
    pub(crate) async fn turn(&self, priority: Priority) -> Turn<'_> {
        let slot = self.turns.acquire(JobKind::Build, priority).await;
        Turn { hook: self, _slot: slot }
    }

    /// Waits, after a build was postponed, until it makes sense to offer it again.
    pub(crate) async fn wait(&self, kind: &Kind, priority: Priority) {
        self.postponed.wait(kind, priority, self.interval).await;
    }

    /// Whoever was woken to be offered again has no use for it: the next one may have.
    pub(crate) fn pass_on(&self, kind: &Kind) {
        self.postponed.wake_next(kind);
    }

    /// A build has ended, so that there may be room for one that was postponed.
    pub(crate) fn a_build_has_ended(&self) {
        self.postponed.wake();
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Turn<'_> {
    /// Offers a build. If that is given up, so is the hook, in the midst of a sentence.
    ///
    /// # Errors
    /// The hook talks nonsense. That it dies is none: then the build is declined.
    pub(crate) async fn ask(&self, offer: &Offer, events: &EventSender) -> Result<Answer, Failure> {
        let hook = self.hook;
        let Some(program) = hook.program.clone().filter(|_| hook.is_there()) else {
            return Ok(Answer::Declined);
        };
        let Offer { derivation, kind, willing } = offer;
        let request = HookInput::offer(&kiln_protocol::hook::Offer {
            willing: *willing,
            system: kind.system.to_vec(),
            derivation: (*derivation).to_owned(),
            features: kind.features.iter().cloned().collect(),
        });
        let (process, request) = match hook.with(|state| state.idle.take()) {
            Some(process) => (process, request),
            None => match hook.start(&program).await {
                Ok(process) => (process, [&program.preamble[..], &request].concat()),
                Err(error) => {
                    events.warn(format!(
                        "builds are not sent to other machines: cannot start the build hook '{}': {error}",
                        program.name()
                    ));
                    hook.give_up();
                    return Ok(Answer::Declined);
                }
            },
        };
        let answer = hook.judge(ask(process, &request, events).await, events)?;
        if !matches!(answer, Answer::Postponed) {
            hook.pass_on(kind);
        }
        Ok(answer)
    }
}

impl BuildHook {
    async fn start(&self, program: &Arc<HookProgram>) -> std::io::Result<HookProcess> {
        let program = Arc::clone(program);
        let verbosity = Verbosity::from_number(self.verbosity.load(Ordering::Relaxed).into());
        blocking(move || HookProcess::start(&program.command(verbosity)?)).await
    }

    fn judge(
        &self,
        reply: Result<Reply, ConversationError>,
        events: &EventSender,
    ) -> Result<Answer, Failure> {
        self.with(|state| state.deaths = if reply.is_ok() { 0 } else { state.deaths + 1 });
        match reply {
            Ok(Reply::Accept(accepted)) => Ok(Answer::Accepted(accepted)),
            Ok(Reply::Decline(process)) => {
                self.with(|state| state.idle = Some(process));
                Ok(Answer::Declined)
            }
            Ok(Reply::Postpone(process)) => {
                self.with(|state| state.idle = Some(process));
                Ok(Answer::Postponed)
            }
            Ok(Reply::DeclinePermanently) => {
                self.give_up();
                Ok(Answer::Declined)
            }
            Err(error @ ConversationError::BadReply(_)) => Err(Failure::misc(error)),
            Err(error) => {
                events.warn(error.to_string());
                if self.with(|state| state.deaths >= MOST_DEATHS) {
                    events.warn(format!(
                        "builds are not sent to other machines any more: the build hook has died {MOST_DEATHS} times in a row"
                    ));
                    self.give_up();
                }
                Ok(Answer::Declined)
            }
        }
    }

    fn give_up(&self) {
        let idle = self.with(|state| {
            state.is_given_up = true;
            state.idle.take()
        });
        drop(idle);
        // Nobody waits for what will not be asked.
        self.postponed.wake_all();
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests -= 1;
            if state.requests == 0 {
                state.is_given_up = false;
                state.deaths = 0;
            }
        });
    }
}
