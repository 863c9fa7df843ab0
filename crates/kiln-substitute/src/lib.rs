//! Store paths from elsewhere: who has them, whether that may be believed, and how they get into the store.
//!
//! A [`Substituter`] is a place that paths can be had from: a binary cache at a server ([`HttpCache`]) or in a directory
//! ([`FileCache`]), another local store ([`StoreSource`]), or the store of a daemon ([`DaemonSource`]). [`Substituters`] are those of an engine:
//!
//! * [`Substituters::find`] asks all of them at once about a path; a [`Search`] gives out those that have it in the order
//!   of their priorities. A substituter that doesn't answer is not waited for if another one has the path.
//! * [`Substituters::verdict`] says whether what one of them says about a path may be believed, and why.
//! * [`Substituters::fetch`] brings a path into the store: download, decompression, hashing, restoring and registration as
//!   one pipeline. Nothing becomes valid that is not what was offered, and nothing is left of what failed.
//! * [`Substituters::realisation`] says as which path an output was made that follows from its content.
//! * [`Substituters::missing`] finds out what a closure needs, with as many questions at once as servers may be asked.
//!
//! What servers have said is remembered on disk ([`LookupCache`]). How they fare is remembered, too ([`Health`]): one that
//! is gone makes nobody wait again, until it has rested and somebody asks it as a probe.
//!
//! Servers are hostile: a narinfo has at most 2 MiB, an answer comes in bounded time, an archive is no longer than its
//! narinfo says, a file no longer than it says or than makes sense.

mod daemon_source;
mod error;
mod fetch;
mod file_cache;
mod health;
mod http_cache;
mod lookup_cache;
mod missing;
mod pipe;
mod realisations;
mod search;
mod source;
mod source_lookup;
mod store_source;
mod substituters;
mod trust;
mod unpack;

pub use daemon_source::DaemonSource;
pub use error::{Error, FetchFault, LookupFault, Resting, Result, SubstituterFault};
pub use fetch::{Existing, Fetched, TransferError};
pub use file_cache::FileCache;
pub use health::{Condition, Health, HealthReport};
pub use http_cache::{CacheServer, HttpCache, Network, Turn};
pub use lookup_cache::{CacheStatus, LookupCache, TimeToLive};
pub use missing::Missing;
pub use realisations::FoundRealisation;
pub use search::{Candidate, Search};
pub use source::{Contents, NarFile, Offer, Properties, Substituter};
pub use store_source::StoreSource;
pub use substituters::{Substituters, Surroundings, open_substituter};
pub use trust::{Grounds, Objection, TrustPolicy, Verdict};
