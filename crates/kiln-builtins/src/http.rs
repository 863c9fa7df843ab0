//! One `GET` over HTTP or HTTPS, however often it takes.
//!
//! [`Downloader`] follows redirects, sends credentials to whom they belong, tries again what may go better the next time,
//! and goes on where a broken transfer ended if the server can do that. What it gets goes to a [`Sink`], piece by piece,
//! so that memory does not depend on how much there is.
//!
//! * [`connector`] makes connections: directly or through a proxy, with or without TLS.
//! * [`credentials`] decides who gets to see which password; [`netrc`] reads them.
//! * [`failure`] says what can go wrong and what of it is worth another try, [`retry`] when.
//! * [`resume`] has the rules for going on where a transfer ended.

mod client;
mod connector;
mod credentials;
mod download;
mod failure;
mod netrc;
mod resume;
mod retry;
mod settings;
mod stall;
mod tls;

pub(crate) use download::{Downloader, Sink};
pub use failure::{DownloadError, Failure};
pub(crate) use netrc::Netrc;
pub use settings::{Proxies, TransferSettings};
