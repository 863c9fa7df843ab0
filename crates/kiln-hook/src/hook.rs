//! From the engine's questions to their answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kiln_events::{Activity, ActivityGuard, ActivityId, EventSender, Verbosity};
use kiln_protocol::hook::Offer;
use kiln_protocol::serve::request::BuildOptions;
use kiln_remote::RemoteStore;
use kiln_settings::RemoteMachine;
use kiln_store::{LocalStore, waiting};
use kiln_store_path::StorePath;
use kiln_substitute::Surroundings;
use tokio::io::AsyncRead;
use tokio::sync::mpsc::Sender;

use crate::choice::{ANY_SYSTEM, Candidate, best, fits};
use crate::errand::Errand;
use crate::error::Result;
use crate::machine::Reach;
use crate::questions::Questions;
use crate::slots::{Slot, Slots};
use crate::voice::Voice;

/// What the engine's machine could build itself.
#[derive(Clone, Debug)]
pub struct Here {
    /// Whether it builds at all: `max-jobs` is not 0.
    pub builds: bool,
    /// The platforms that it builds for.
    pub systems: BTreeSet<String>,
    /// The features that it has.
    pub features: BTreeSet<String>,
}

/// A hook, and what it may use.
pub struct Hook {
    /// The engine's store.
    pub store: LocalStore,
    /// The machines.
    pub machines: Vec<RemoteMachine>,
    /// How they are reached.
    pub reach: Reach,
    /// What the engine's machine could do.
    pub here: Here,
    /// `builders-use-substitutes`: machines get from substituters what they can.
    pub substitutes: bool,
    /// What the engine wants of builds: limits, and that directories of failed ones stay. Those who speak the worker protocol
    /// go by their machine's settings instead.
    pub options: BuildOptions,
    /// How copies are made.
    pub surroundings: Surroundings,
    /// The way to the engine.
    pub voice: Arc<Voice>,
    /// Who is told what happens: `voice`.
    pub events: EventSender,
    /// Gets what builders say, as it comes.
    pub log: Sender<Bytes>,
}

/// A machine for a build, with a place that is taken.
struct Found {
    machine: RemoteMachine,
    store: RemoteStore,
    slot: Slot,
}

/// What is answered.
enum Answer {
    Accept(Box<Found>),
    Postpone,
    Decline,
}

impl Hook {
    /// Answers the engine's questions, and builds what was accepted. The answer is what to exit with.
    ///
    /// # Errors
    /// The engine makes no sense, or something fails that isn't the build.
    pub async fn serve<R: AsyncRead + Unpin>(self, mut questions: Questions<R>) -> Result<u8> {
        if self.machines.is_empty() {
            self.voice.answer("decline-permanently");
            return Ok(0);
        }
        let slots = Slots::open(&self.store.config().locations.state_dir)?;
        let mut unreachable = BTreeSet::new();
        while let Some(offer) = questions.offer().await? {
            match self.answer(&offer, &slots, &mut unreachable).await? {
                Answer::Postpone => self.voice.answer("postpone"),
                Answer::Decline => self.voice.answer("decline"),
                Answer::Accept(found) => {
                    self.voice.accept(&found.machine.store_url);
                    let work = questions.work().await?;
                    let errand = Errand {
                        hook: &self,
                        machine: found.machine.store_url.as_str(),
                        remote: &found.store,
                        derivation: self.path(&offer.derivation)?,
                    };
                    let code = errand.run(&work, &slots).await;
                    found.store.close().await;
                    drop(found.slot);
                    return code;
                }
            }
        }
        Ok(0)
    }

    /// Looks for a machine; `unreachable` gets the numbers of those that can't be reached.
    async fn answer(
        &self,
        offer: &Offer,
        slots: &Slots,
        unreachable: &mut BTreeSet<usize>,
    ) -> Result<Answer> {
        let could_build = self.here.builds && self.could_build(offer);
        loop {
            let fitting: Vec<(usize, RemoteMachine)> = self
                .machines
                .iter()
                .enumerate()
                .filter(|(number, machine)| !unreachable.contains(number) && fits(machine, offer))
                .map(|(number, machine)| (number, machine.clone()))
                .collect();
            let is_right_kind = !fitting.is_empty();
            let slots = slots.clone();
            let Some((number, machine, slot)) = waiting(move || choose(&slots, fitting)).await? else {
                if is_right_kind && !(could_build && offer.willing) {
                    return Ok(Answer::Postpone);
                }
                let level = if could_build { Verbosity::Chatty } else { Verbosity::Warn };
                self.events.message(level, self.nobody(offer));
                return Ok(Answer::Decline);
            };
            slot.touch();
            match self.connect(&machine).await {
                Ok(store) => return Ok(Answer::Accept(Box::new(Found { machine, store, slot }))),
                Err(error) => {
                    let text = format!("cannot build on '{}': {error}", machine.store_url);
                    self.events.message(Verbosity::Error, text);
                    unreachable.insert(number);
                }
            }
        }
    }

    fn could_build(&self, offer: &Offer) -> bool {
        let is_system = offer.system == ANY_SYSTEM
            || self.here.systems.iter().any(|system| system.as_bytes() == offer.system);
        is_system && offer.features.is_subset(&self.here.features)
    }

    async fn connect(&self, machine: &RemoteMachine) -> Result<RemoteStore> {
        let _activity = self.telling("connecting to", &machine.store_url);
        let address = self.reach.address(machine, self.store.store_dir())?;
        let store = RemoteStore::with_output(address, self.events.clone(), self.log.clone());
        store.greeting().await?;
        Ok(store)
    }

    /// A path that the engine names.
    pub(crate) fn path(&self, text: &str) -> Result<StorePath> {
        Ok(self.store.store_dir().parse(text)?)
    }

    /// Tells what goes on for as long as the value lives.
    pub(crate) fn telling(&self, what: &str, machine: &str) -> ActivityGuard {
        let text = format!("{what} '{machine}'");
        self.events.start_with_text(ActivityId::NONE, Verbosity::Talkative, Activity::Unknown, text)
    }

    /// Why no machine is of the right kind, in Nix's words.
    fn nobody(&self, offer: &Offer) -> String {
        let list = |words: &BTreeSet<String>| words.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let derivation = offer.derivation.rsplit('/').next().unwrap_or_default();
        let mut text = format!(
            "Failed to find a machine for remote build!\nderivation: {}\nrequired (system, features): ({}, [{}])\n{} available \
             machines:\n(systems, maxjobs, supportedFeatures, mandatoryFeatures)",
            kiln_events::quoted(derivation.as_bytes()),
            kiln_events::quoted(&offer.system),
            list(&offer.features),
            self.machines.len(),
        );
        for machine in &self.machines {
            text += &format!(
                "\n([{}], {}, [{}], [{}])",
                list(&machine.systems),
                machine.max_jobs,
                list(&machine.supported_features),
                list(&machine.mandatory_features)
            );
        }
        text
    }
}

/// Takes a place on the best of these machines, while no other hook does. Blocks.
fn choose(
    slots: &Slots,
    fitting: Vec<(usize, RemoteMachine)>,
) -> Result<Option<(usize, RemoteMachine, Slot)>> {
    if fitting.is_empty() {
        return Ok(None);
    }
    let _lock = slots.lock_choosing()?;
    let mut candidates = Vec::new();
    for (number, machine) in fitting {
        if let (load, Some(slot)) = slots.take(&machine)? {
            candidates.push(Candidate { speed: machine.speed_factor, load, what: (number, machine, slot) });
        }
    }
    Ok(best(candidates).map(|best| best.what))
}
