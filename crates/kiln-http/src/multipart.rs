//! Sending a large file to a bucket in parts: several at once, and only what fails is sent again.
//!
//! The server keeps the parts, and wants to be paid for them, until they have become the file or are thrown away. So an
//! upload that fails is aborted, and so is one that is given up, if there is still an event loop that does it. What a
//! process leaves that was killed is up to the bucket's rules (`AbortIncompleteMultipartUpload`).

use crate::client::Client;
use crate::failure::Failure;
use crate::s3::{S3Signer, Step};
use crate::settings::Patience;
use crate::upload::{LARGEST_ANSWER, Stop, UploadError, refused, tries, while_moving, within};
use crate::upload_body::UploadBody;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use hyper::{Method, Response};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use url::Url;

/// The least that servers take as a part which is not the last one, in bytes.
pub const LEAST_PART: u64 = 5 << 20;

/// The most parts that servers take.
const MOST_PARTS: u64 = 10_000;

/// Parts that are sent at the same time.
const AT_ONCE: usize = 4;

/// Servers may take minutes to put the parts together.
const COMPLETION: Duration = Duration::from_secs(600);

/// A file that is sent in parts.
pub struct Parts<'a> {
    /// Its bytes.
    pub length: u64,
    /// Bytes of a part: more if there would be too many of them, and never less than servers take.
    pub part: u64,
    /// Begins to send a part. An error breaks the try off.
    pub open: &'a (dyn Fn(Range<u64>) -> mpsc::Receiver<io::Result<Bytes>> + Send + Sync),
}

impl Parts<'_> {
    /// Where the parts are in the file, with their numbers.
    fn ranges(&self) -> impl Iterator<Item = (u16, Range<u64>)> + use<> {
        let length = self.length;
        let part = self.part.max(LEAST_PART).max(length.div_ceil(MOST_PARTS));
        let starts = (0..length.div_ceil(part)).map(move |index| index * part);
        (1..).zip(starts.map(move |start| start..start.saturating_add(part).min(length)))
    }
}

/// An upload that is under way. Unless it has ended, it is aborted when this is dropped.
struct Begun {
    client: Client,
    url: Url,
    upload: Arc<str>,
    patience: Patience,
    has_ended: AtomicBool,
}

impl Client {
    /// Whether files at this URL can be sent in parts: those of the bucket that this client signs requests to.
    #[must_use]
    pub fn takes_parts(&self, url: &Url) -> bool {
        self.signer.as_ref().is_some_and(|signer| signer.sign_step(Step::Create, url).is_some())
    }

    /// Sends a file to a bucket in parts, in place of what is there. There is no file before the last part has arrived.
    ///
    /// # Errors
    /// There is no use in trying again, or something was tried as often as may be; the parts are thrown away then. So they
    /// are if this is dropped before its end.
    pub async fn put_in_parts(
        &self,
        url: &Url,
        media_type: &'static str,
        parts: Parts<'_>,
        patience: Patience,
    ) -> Result<(), UploadError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        let create = || async {
            let asked = self.step(Method::POST, Step::Create, url, &headers, UploadBody::Empty);
            let text =
                self.answer(within(patience.stalled, patience.slowest, asked).await??, patience).await?;
            let created = CreateMultipartUpload::parse_response(&text);
            Ok(created.map_err(|error| no_sense(&error))?.upload_id().into())
        };
        let upload = tries("upload to", url, patience, create).await?;
        let has_ended = AtomicBool::new(false);
        let begun = Begun { client: self.clone(), url: url.clone(), upload, patience, has_ended };
        let sent = begun.send_and_complete(&parts).await;
        begun.has_ended.store(true, Ordering::Relaxed);
        if sent.is_err() {
            begun.abort().await;
        }
        sent
    }

    /// Asks for one step; gives the answer if it is a good one.
    async fn step(
        &self,
        method: Method,
        step: Step<'_>,
        url: &Url,
        headers: &HeaderMap,
        body: UploadBody,
    ) -> Result<Response<Incoming>, Stop> {
        let sign = |signer: &Arc<S3Signer>| signer.sign_step(step, url);
        let unsigned = || Failure::Credentials("files are sent in parts to buckets alone".to_owned());
        let signed = self.signer.as_ref().and_then(sign).ok_or_else(unsigned)?;
        let response = self.send(method, &signed, headers, None, body).await?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(refused(status, &response)) }
    }

    async fn answer(&self, response: Response<Incoming>, patience: Patience) -> Result<String, Stop> {
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect();
        let body = within(patience.stalled, patience.slowest, body).await?;
        let body = body.map_err(|error| Failure::Transfer(error.to_string()))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

impl Begun {
    async fn send_and_complete(&self, parts: &Parts<'_>) -> Result<(), UploadError> {
        let sending = parts.ranges().map(|(number, range)| self.send(parts, number, range));
        let tags: Vec<String> = stream::iter(sending).buffered(AT_ONCE).try_collect().await?;
        let completed = tries("upload to", &self.url, self.patience, || self.complete(&tags)).await;
        match completed {
            // The answer to an earlier try was lost, and the upload has become the file.
            Err(UploadError { failure: Failure::Status(status), .. })
                if status == hyper::StatusCode::NOT_FOUND
                    && self.client.exists(&self.url, self.patience).await? =>
            {
                Ok(())
            }
            completed => completed,
        }
    }

    /// Sends a part; gives what the server calls it.
    async fn send(&self, parts: &Parts<'_>, number: u16, range: Range<u64>) -> Result<String, UploadError> {
        let send = || async {
            let sent = Arc::new(AtomicU64::new(0));
            let left = range.end.saturating_sub(range.start);
            let chunks = (parts.open)(range.clone());
            let body = UploadBody::Stream { chunks, left, sent: Arc::clone(&sent) };
            let step = Step::Part { upload: &self.upload, number };
            let headers = HeaderMap::new();
            let asked = self.client.step(Method::PUT, step, &self.url, &headers, body);
            let response = while_moving(self.patience, &sent, asked).await??;
            let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok().map(str::to_owned));
            // Read to its end, so that the connection can be used again.
            self.client.answer(response, self.patience).await?;
            tag.ok_or_else(|| no_sense(&"a part has got no tag").into())
        };
        tries("upload to", &self.url, self.patience, send).await
    }

    async fn complete(&self, tags: &[String]) -> Result<(), Stop> {
        let signer = self.client.signer.as_ref();
        let body = signer.map(|signer| signer.completion(tags.iter().map(String::as_str)));
        let body = UploadBody::Bytes(body.unwrap_or_default().into());
        let step = Step::Complete { upload: &self.upload };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/xml"))]);
        let asked = self.client.step(Method::POST, step, &self.url, &headers, body);
        let patience = Patience { stalled: self.patience.stalled.max(COMPLETION), ..self.patience };
        let response = within(patience.stalled, patience.slowest, asked).await??;
        // Its head says that all is well before anybody knows.
        let text = self.client.answer(response, patience).await?;
        CompleteMultipartUploadResponse::parse(&text).map(drop).map_err(|error| no_sense(&error).into())
    }

    /// Has the parts thrown away. What comes of it changes nothing for who has failed.
    async fn abort(&self) {
        let step = Step::Abort { upload: &self.upload };
        let headers = HeaderMap::new();
        let abort = || async {
            let asked = self.client.step(Method::DELETE, step, &self.url, &headers, UploadBody::Empty);
            within(self.patience.stalled, self.patience.slowest, asked).await?.map(drop)
        };
        let _ = tries("upload to", &self.url, self.patience, abort).await;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if *self.has_ended.get_mut() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (client, url) = (self.client.clone(), self.url.clone());
        let (upload, patience) = (Arc::clone(&self.upload), self.patience);
        let ended = Self { client, url, upload, patience, has_ended: AtomicBool::new(true) };
        runtime.spawn(async move { ended.abort().await });
    }
}

/// The failure of a server whose answer is not what the protocol has.
fn no_sense(reason: &dyn std::fmt::Display) -> Failure {
    Failure::Transfer(format!("the answer makes no sense: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_within_what_servers_take() {
        let open = |_| mpsc::channel(1).1;
        let ranges = |length, part| Parts { length, part, open: &open }.ranges().collect::<Vec<_>>();
        assert_eq!(ranges(12 << 20, 1), [(1, 0..5 << 20), (2, 5 << 20..10 << 20), (3, 10 << 20..12 << 20)]);
        assert_eq!(ranges(10 << 20, 5 << 20).len(), 2, "no part is empty");
        let many = ranges(1 << 40, LEAST_PART);
        assert!(many.len() <= 10_000 && many.last().is_some_and(|(_, range)| range.end == 1 << 40));
        assert!(many.windows(2).all(|pair| pair[0].1.end == pair[1].1.start && pair[0].0 + 1 == pair[1].0));
    }
}
