//! Who has a path, in the order of their priorities, without waiting for those who don't answer.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, future::BoxFuture};
use kiln_events::{ActivityId, EventSender};
use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::fetch::{TransferError, transfer};
use crate::http_cache::Turn;
use crate::source::Offer;
use crate::source_lookup::{Answer, Source};

/// How long a substituter that has the path waits for those that may come before it.
pub(crate) const HEAD_START: Duration = Duration::from_millis(500);

/// A path at a substituter.
#[derive(Clone)]
pub struct Candidate {
    pub(crate) source: Arc<Source>,
    offer: Offer,
    /// Priority, and place in the list.
    rank: (i64, usize),
}

impl Candidate {
    /// The URL of the substituter.
    #[must_use]
    pub fn substituter(&self) -> &str {
        self.source.substituter.name()
    }

    /// What the substituter says about the path.
    #[must_use]
    pub fn info(&self) -> &Arc<PathInfo> {
        &self.offer.info
    }

    /// The offer itself.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Hands the archive to `take`, which reads it on a thread that may block: to its end if it wants to know that the file is
    /// what its narinfo says, and comparing what it reads with what is said of the archive, which nothing here does. Returns
    /// what came of it, and the bytes that were transferred. `destination` is the name of the place that gets the path, for
    /// those who watch; `parent` the activity that it belongs to.
    ///
    /// # Errors
    /// The archive is not to be had, or whoever took it failed.
    pub async fn transfer<T, E, F>(
        &self,
        destination: &str,
        events: &EventSender,
        parent: ActivityId,
        take: impl FnOnce(Box<dyn Read + Send>) -> F,
    ) -> Result<(T, u64), TransferError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let path = self.source.print(&self.offer.info.path);
        transfer(self, (&path, destination), (None, ready(())), (events, parent), take).await
    }

    /// See [`Substituter::turn`](crate::Substituter::turn).
    pub async fn turn(&self) -> Option<Turn<'_>> {
        self.source.substituter.turn(&self.offer).await
    }
}

/// A search for a path: all substituters are asked at once, and those that have it come out in order.
pub struct Search {
    sources: Vec<Arc<Source>>,
    waiting: FuturesUnordered<BoxFuture<'static, (usize, Answer)>>,
    /// Whether each source has yet to answer.
    is_waited_for: Vec<bool>,
    found: Vec<Candidate>,
    head_start: Instant,
    absent: Vec<Arc<Source>>,
    troubles: Vec<Arc<Error>>,
}

impl Search {
    /// Begins to ask. Must be called within the runtime.
    pub(crate) fn new(sources: &[Arc<Source>], path: &StorePath) -> Self {
        let ask = |(place, source): (usize, &Arc<Source>)| {
            source.ask(path).map(move |answer| (place, answer)).boxed()
        };
        Self {
            waiting: sources.iter().enumerate().map(ask).collect(),
            is_waited_for: vec![true; sources.len()],
            sources: sources.to_vec(),
            found: Vec::new(),
            head_start: Instant::now() + HEAD_START,
            absent: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// The next best substituter that has the path; nothing if there is none any more. One that comes before it has time
    /// to answer, but not for ever; what it says later counts then.
    pub async fn next(&mut self) -> Option<Candidate> {
        loop {
            let best = self.found.iter().enumerate().min_by_key(|(_, candidate)| candidate.rank);
            let best = best.map(|(index, candidate)| (index, candidate.rank));
            let answer = match best {
                Some((index, rank)) if !self.may_be_beaten(rank) => {
                    return Some(self.found.swap_remove(index));
                }
                Some((index, _)) => match timeout_at(self.head_start, self.waiting.next()).await {
                    Ok(answer) => answer,
                    Err(_) => return Some(self.found.swap_remove(index)),
                },
                None => self.waiting.next().await,
            };
            match answer {
                Some((place, answer)) => self.take(place, answer),
                None if self.found.is_empty() => return None,
                None => {}
            }
        }
    }

    /// The URLs of the substituters that have said so far that they don't have the path.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.absent.iter().map(|source| source.substituter.name())
    }

    /// What went wrong with substituters so far.
    #[must_use]
    pub fn troubles(&self) -> &[Arc<Error>] {
        &self.troubles
    }

    /// Whether somebody who has yet to answer would come first.
    fn may_be_beaten(&self, rank: (i64, usize)) -> bool {
        let unanswered = self.is_waited_for.iter().zip(&self.sources).enumerate();
        unanswered.filter(|(_, (waited_for, _))| **waited_for).any(|(place, (_, source))| {
            source.properties().is_none_or(|properties| (properties.priority, place) < rank)
        })
    }

    fn take(&mut self, place: usize, answer: Answer) {
        if let Some(waited_for) = self.is_waited_for.get_mut(place) {
            *waited_for = false;
        }
        let Some(source) = self.sources.get(place) else { return };
        match answer {
            Ok(None) => self.absent.push(Arc::clone(source)),
            Ok(Some(offer)) => {
                let priority = source.properties().map_or(0, |properties| properties.priority);
                self.found.push(Candidate { source: Arc::clone(source), offer, rank: (priority, place) });
            }
            Err(error) => self.troubles.push(error),
        }
    }
}
