//! Sending files to a server, and asking what it has.

use crate::client::Client;
use crate::credentials::credentials;
use crate::download::{is_http, shown};
use crate::failure::Failure;
use crate::retry;
use crate::settings::Patience;
use crate::upload_body::UploadBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, Response, StatusCode};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

/// What a server says to an upload is read to its end, so that the connection can be used again, but no further than this.
pub(crate) const LARGEST_ANSWER: usize = 64 << 10;

/// An upload, or a question about a file, failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unable to {action} '{url}': {failure}")]
pub struct UploadError {
    /// `upload to`, or `look for`.
    pub action: &'static str,
    /// The URL, without a password.
    pub url: String,
    /// What happened the last time that it was tried.
    pub failure: Failure,
}

/// What is sent. It must be possible to send it again.
pub enum Upload<'a> {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes that come from elsewhere.
    Stream {
        /// How many.
        length: u64,
        /// Begins to send them, from the first one on. An error breaks the try off.
        open: &'a (dyn Fn() -> mpsc::Receiver<io::Result<Bytes>> + Send + Sync),
    },
}

/// Why a try ended, and how long the server wants to be left alone.
pub(crate) struct Stop {
    failure: Failure,
    asked: Option<Duration>,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self { failure, asked: None }
    }
}

impl Client {
    /// Asks by a `HEAD` whether there is a file. "Forbidden" counts as no, since servers that may not be listed say that of
    /// what is not there.
    ///
    /// # Errors
    /// The server doesn't say.
    pub async fn exists(&self, url: &Url, patience: Patience) -> Result<bool, UploadError> {
        let ask = || async {
            let headers = HeaderMap::new();
            let answer = self.follow(&Method::HEAD, url, url, &headers);
            let response = within(patience.stalled, patience.slowest, answer).await??;
            match response.status() {
                status if status.is_success() => Ok(true),
                StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => Ok(false),
                status => Err(refused(status, &response)),
            }
        };
        tries("look for", url, patience, ask).await
    }

    /// Sends a file by a `PUT`, in place of what is there. Redirects are not followed: whoever may write there is asked
    /// directly.
    ///
    /// # Errors
    /// There is no use in trying again, or it was tried as often as may be.
    pub async fn put(
        &self,
        url: &Url,
        media_type: &'static str,
        upload: Upload<'_>,
        patience: Patience,
    ) -> Result<(), UploadError> {
        let upload = &upload;
        let send = || async move {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
            let sent = Arc::new(AtomicU64::new(0));
            let body = match upload {
                Upload::Bytes(bytes) => UploadBody::Bytes(bytes.clone()),
                Upload::Stream { length, open } => {
                    UploadBody::Stream { chunks: open(), left: *length, sent: Arc::clone(&sent) }
                }
            };
            let credentials = credentials(url, url, &self.netrc);
            let answer = self.send(Method::PUT, url, &headers, credentials, body);
            let response = while_moving(patience, &sent, answer).await??;
            if response.status().is_redirection() {
                return Err(sent_elsewhere(&response).into());
            }
            if !response.status().is_success() {
                return Err(refused(response.status(), &response));
            }
            let body = http_body_util::Limited::new(response.into_body(), LARGEST_ANSWER);
            // The file has arrived; what else there is to say doesn't matter.
            let _ = within(patience.stalled, patience.slowest, body.collect()).await;
            Ok(())
        };
        tries("upload to", url, patience, send).await
    }
}

/// The failure of an upload that a server wants to have at another place.
fn sent_elsewhere<B>(response: &Response<B>) -> Failure {
    match response.headers().get(LOCATION) {
        None => Failure::Status(response.status()),
        Some(location) => Failure::Redirect {
            location: kiln_events::quoted(location.as_bytes()),
            reason: "files are sent only to the server that was named; name the other one instead".to_owned(),
        },
    }
}

pub(crate) fn refused<B>(status: StatusCode, response: &Response<B>) -> Stop {
    let asked = retry::asked_for(response.headers(), SystemTime::now());
    Stop { failure: Failure::Status(status), asked }
}

/// Tries until it succeeds, or there is no use.
pub(crate) async fn tries<T, F: Future<Output = Result<T, Stop>>>(
    action: &'static str,
    url: &Url,
    patience: Patience,
    mut attempt: impl FnMut() -> F,
) -> Result<T, UploadError> {
    let fail = |failure| UploadError { action, url: shown(url), failure };
    if !is_http(url) {
        return Err(fail(Failure::UnsupportedScheme(url.scheme().to_owned())));
    }
    let mut tried = 0;
    loop {
        tried += 1;
        let Stop { failure, asked } = match attempt().await {
            Ok(done) => return Ok(done),
            Err(stop) => stop,
        };
        match retry::delay(tried, failure.retry(), asked, retry::chance()) {
            Some(delay) if tried < patience.attempts => tokio::time::sleep(delay).await,
            _ => return Err(fail(failure)),
        }
    }
}

/// Waits no longer than `limit`, unless that is zero.
pub(crate) async fn within<T>(
    limit: Duration,
    slowest: u64,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    if limit.is_zero() {
        return Ok(work.await);
    }
    timeout(limit, work).await.map_err(|_| Failure::Stalled { limit, slowest })
}

/// Waits as long as bytes are being sent, and then for an answer.
pub(crate) async fn while_moving<T>(
    patience: Patience,
    sent: &AtomicU64,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::pin!(work);
    let mut before = None;
    loop {
        let now = sent.load(Ordering::Relaxed);
        if before == Some(now) {
            return Err(Failure::Stalled { limit: patience.stalled, slowest: patience.slowest });
        }
        before = Some(now);
        if let Ok(done) = within(patience.stalled, patience.slowest, &mut work).await {
            return Ok(done);
        }
    }
}
