//! As which paths outputs were made that follow from content, as substituters say it (binary-cache specification,
//! section 7).
//!
//! Whoever says of an output that it is a certain path makes others use that path, so that its word counts as little as
//! what is said of the contents of a path: it has to be signed, or to come from a substituter that is trusted.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kiln_narinfo::{Realisation, RealisationId};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::search::HEAD_START;
use crate::source_lookup::Source;
use crate::substituters::Substituters;

/// What substituters say of an output.
#[derive(Debug, Default)]
pub struct FoundRealisation {
    /// The best answer that may be believed.
    pub realisation: Option<Realisation>,
    /// The substituters whose answers nothing vouches for.
    pub distrusted: Vec<String>,
    /// What went wrong with others.
    pub troubles: Vec<Error>,
}

/// Where a cache has what it knows of an output.
pub(crate) fn realisation_file(id: &RealisationId) -> String {
    format!("realisations/{id}.doi")
}

impl Substituters {
    /// Asks all substituters as which path an output was made. Of those that know, the first in the order of priorities
    /// counts; once somebody has an answer, the others have a moment for theirs.
    pub async fn realisation(&self, id: &RealisationId) -> FoundRealisation {
        let ask = |(place, source): (usize, &Arc<Source>)| {
            let source = Arc::clone(source);
            async move {
                let answer = answer(&source, id).await;
                (place, source, answer)
            }
        };
        let mut asking: FuturesUnordered<_> = self.sources().iter().enumerate().map(ask).collect();
        let patience = Instant::now() + HEAD_START;
        let mut found = FoundRealisation::default();
        let mut best: Option<((i64, usize), Realisation)> = None;
        loop {
            let next = match &best {
                None => asking.next().await,
                Some(_) => timeout_at(patience, asking.next()).await.unwrap_or(None),
            };
            let Some((place, source, answer)) = next else { break };
            match answer {
                Ok(None) => {}
                Err(error) => found.troubles.push(error),
                Ok(Some(realisation)) if !self.vouches(&source, &realisation) => {
                    found.distrusted.push(source.substituter.name().to_owned());
                }
                Ok(Some(realisation)) => {
                    let rank = (source.properties().map_or(0, |properties| properties.priority), place);
                    if best.as_ref().is_none_or(|(other, _)| rank < *other) {
                        best = Some((rank, realisation));
                    }
                }
            }
        }
        found.realisation = best.map(|(_, realisation)| realisation);
        found
    }

    fn vouches(&self, source: &Source, realisation: &Realisation) -> bool {
        let trust = self.trust();
        !trust.require_signatures || source.substituter.is_trusted() || realisation.is_signed(&trust.keys)
    }
}

async fn answer(source: &Source, id: &RealisationId) -> Result<Option<Realisation>> {
    source.learn_properties().await?;
    source.substituter.realisation(id).await
}
