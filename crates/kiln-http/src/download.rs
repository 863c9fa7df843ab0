//! A download: tries, redirects, and the way of the bytes.

use crate::client::Client;
use crate::credentials::credentials;
use crate::failure::{DownloadError, Failure};
use crate::resume::{Head, Progress};
use crate::retry;
use crate::settings::Patience;
use crate::stall::StallWatch;
use crate::upload_body::UploadBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, DATE, HeaderMap, LOCATION};
use hyper::{Method, Response};
use kiln_events::quoted;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// Something that happened to a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The file comes from its start; what has come before is to be forgotten.
    Start {
        /// How many bytes there will be, if the server says so. They may be fewer or more once the coding is undone.
        length: Option<u64>,
        /// The `Content-Encoding`, if there is one; nothing is undone here.
        coding: Option<String>,
    },
    /// The next bytes, never none.
    Bytes(Bytes),
    /// It broke, and is going to be tried again.
    Retry(Retry),
}

/// A try that has failed, with another one to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What happened.
    pub error: DownloadError,
    /// How long the next try is put off.
    pub delay: Duration,
    /// The byte at which it will go on; 0 for the start.
    pub from: u64,
}

/// A file that fits into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// What came.
    pub bytes: Vec<u8>,
    /// Its `Content-Encoding`, if there is one; nothing is undone here.
    pub coding: Option<String>,
    /// What the server's clock said when it answered, if it did say.
    pub date: Option<SystemTime>,
}

/// One download. It goes on as [`next`](Self::next) is called, and is broken off when this is dropped.
pub struct Download {
    client: Client,
    url: Url,
    /// Whose passwords may be sent: the URL that was asked for first.
    first: Url,
    /// The URL as messages have it.
    shown: String,
    patience: Patience,
    deadline: Option<Instant>,
    tried: u32,
    progress: Progress,
    watch: StallWatch,
    /// The server's clock, when it answered last.
    date: Option<SystemTime>,
    state: State,
}

/// What comes next.
enum State {
    /// A request, not before this.
    Ask(Option<Instant>),
    /// The rest of a body.
    Body(Incoming),
    /// Nothing.
    Ended,
}

/// Why a try ended, and how long the server wants to be left alone.
struct Stop {
    failure: Failure,
    asked: Option<Duration>,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self { failure, asked: None }
    }
}

impl Client {
    /// Begins a download of what is at `url`, which is shown without a password in messages.
    ///
    /// # Errors
    /// It is no URL of HTTP.
    pub fn download(&self, url: &str) -> Result<Download, DownloadError> {
        let fail = |failure| DownloadError { url: quoted(url.as_bytes()), failure };
        let mut parsed = Url::parse(url).map_err(|error| fail(Failure::InvalidUrl(error.to_string())))?;
        parsed.set_fragment(None);
        if !is_http(&parsed) {
            return Err(fail(Failure::UnsupportedScheme(parsed.scheme().to_owned())));
        }
        Ok(self.download_from(parsed))
    }

    fn download_from(&self, url: Url) -> Download {
        Download {
            client: self.clone(),
            first: url.clone(),
            shown: shown(&url),
            url,
            patience: self.patience,
            deadline: None,
            tried: 0,
            progress: Progress::default(),
            watch: StallWatch::new(Duration::ZERO, 0),
            date: None,
            state: State::Ask(None),
        }
    }
}

impl Download {
    /// Puts up with so much instead of what the settings say.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self.deadline = patience.within.and_then(|within| Instant::now().checked_add(within));
        self
    }

    /// The URL was found at `first`, and passwords for that are for no other server.
    #[must_use]
    pub fn found_at(mut self, first: &Url) -> Self {
        self.first = first.clone();
        self
    }

    /// What came can't be taken back: [`Piece::Start`] comes once. Where the server can't go on, what has come already is
    /// passed over, as far as it is certain to be the same.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.progress = Progress::new(true);
        self
    }

    /// The URL as messages have it: without a password.
    #[must_use]
    pub fn shown_url(&self) -> &str {
        &self.shown
    }

    /// How many bytes have come, and how many there are if that is known.
    #[must_use]
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.progress.received, self.progress.total)
    }

    /// Waits for what comes next; nothing if the file is complete.
    ///
    /// # Errors
    /// There is no use in trying again, or it was tried as often as may be.
    pub async fn next(&mut self) -> Result<Option<Piece>, DownloadError> {
        let stop = match self.deadline {
            None => match self.step().await {
                Ok(piece) => return Ok(piece),
                Err(stop) => stop,
            },
            Some(deadline) => match timeout_at(deadline, self.step()).await {
                Ok(Ok(piece)) => return Ok(piece),
                Ok(Err(stop)) => stop,
                Err(_) => Failure::Overdue(self.patience.within.unwrap_or_default()).into(),
            },
        };
        self.stopped(stop).map(|retry| Some(Piece::Retry(retry)))
    }

    /// Waits for the whole of a file that has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`next`](Self::next), and if there are more bytes.
    pub async fn read(mut self, limit: usize) -> Result<SmallFile, DownloadError> {
        let mut file = SmallFile { bytes: Vec::new(), coding: None, date: None };
        while let Some(piece) = self.next().await? {
            match piece {
                Piece::Start { coding, .. } => {
                    file = SmallFile { bytes: Vec::new(), coding, date: self.date }
                }
                Piece::Bytes(bytes) if file.bytes.len().saturating_add(bytes.len()) > limit => {
                    return Err(self.error(Failure::TooLarge(limit as u64)));
                }
                Piece::Bytes(bytes) => file.bytes.extend_from_slice(&bytes),
                Piece::Retry(_) => {}
            }
        }
        Ok(file)
    }

    fn error(&self, failure: Failure) -> DownloadError {
        DownloadError { url: self.shown.clone(), failure }
    }

    async fn step(&mut self) -> Result<Option<Piece>, Stop> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Ask(after) => {
                    if let Some(after) = *after {
                        sleep_until(after).await;
                    }
                    if let Some(start) = self.ask().await? {
                        return Ok(Some(start));
                    }
                }
                State::Body(body) => {
                    let Some(frame) = self.watch.wait(body.frame()).await? else {
                        self.complete()?;
                        continue;
                    };
                    let frame = frame.map_err(|error| Failure::of_body(&error))?;
                    let Ok(mut bytes) = frame.into_data() else { continue };
                    let length = bytes.len() as u64;
                    self.watch.received(length);
                    let repeated = self.progress.take(length);
                    let _ = bytes.split_to(usize::try_from(repeated).unwrap_or(bytes.len()));
                    if !bytes.is_empty() {
                        return Ok(Some(Piece::Bytes(bytes)));
                    }
                }
            }
        }
    }

    /// Sends the request, and looks at the head of the answer.
    async fn ask(&mut self) -> Result<Option<Piece>, Stop> {
        self.tried = self.tried.saturating_add(1);
        let mut watch = StallWatch::new(self.patience.stalled, self.patience.slowest);
        let headers = self.progress.request_headers();
        let answer = self.client.follow(&Method::GET, &self.url, &self.first, &headers);
        let response = watch.wait(answer).await??;
        self.watch = watch;
        let head = self.progress.answered(response.status(), response.headers()).map_err(|failure| {
            let asked = retry::asked_for(response.headers(), SystemTime::now());
            Stop { failure, asked }
        })?;
        let coding = response.headers().get(CONTENT_ENCODING);
        let coding = coding.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        self.date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        self.state = State::Body(response.into_body());
        Ok((head == Head::FromStart).then(|| Piece::Start { length: self.progress.total, coding }))
    }

    /// Notes the end of a body.
    fn complete(&mut self) -> Result<(), Failure> {
        let received = self.progress.received - self.progress.repeated;
        let expected = self.progress.total.unwrap_or(self.progress.received);
        if received != expected {
            return Err(Failure::Incomplete { received, expected });
        }
        self.state = State::Ended;
        Ok(())
    }

    /// Decides what becomes of a download whose try has ended.
    fn stopped(&mut self, stop: Stop) -> Result<Retry, DownloadError> {
        let Stop { failure, asked } = stop;
        self.state = State::Ended;
        let now = Instant::now();
        let delay = retry::delay(self.tried, failure.retry(), asked, retry::chance())
            .filter(|_| self.tried < self.patience.attempts);
        let after = delay.and_then(|delay| now.checked_add(delay));
        let after = after.filter(|after| self.deadline.is_none_or(|deadline| *after < deadline));
        let (Some(after), Some(delay)) = (after, delay) else { return Err(self.error(failure)) };
        if failure == Failure::NotResumed {
            self.progress.start_over();
        }
        self.state = State::Ask(Some(after));
        let from = if self.progress.can_go_on() { self.progress.received } else { 0 };
        Ok(Retry { error: self.error(failure), delay, from })
    }
}

impl Client {
    /// Asks the server, and whomever it names, until one has something else to say than who to ask. Passwords are those for
    /// `first`.
    pub(crate) async fn follow(
        &self,
        method: &Method,
        url: &Url,
        first: &Url,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let credentials = credentials(&url, first, &self.netrc);
            let response = self.send(method.clone(), &url, headers, credentials, UploadBody::Empty).await?;
            let location = match (response.status().as_u16(), response.headers().get(LOCATION)) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location.as_bytes(),
                _ => return Ok(response),
            };
            url = redirect(&url, location)?;
        }
        Err(Failure::TooManyRedirects(MAX_REDIRECTS))
    }
}

impl std::fmt::Display for Retry {
    /// One line, for a warning.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; retrying", self.error)?;
        if self.from > 0 {
            write!(f, " from byte {}", self.from)?;
        }
        write!(f, " in {} ms", self.delay.as_millis())
    }
}

/// Where a redirect leads to, if it may.
fn redirect(from: &Url, location: &[u8]) -> Result<Url, Failure> {
    let refused = |reason: &str| Failure::Redirect { location: quoted(location), reason: reason.to_owned() };
    let text = std::str::from_utf8(location).map_err(|_| refused("it is not UTF-8"))?;
    let to = from.join(text).map_err(|error| refused(&error.to_string()))?;
    if !is_http(&to) {
        return Err(refused("only http and https are"));
    }
    Ok(to)
}

pub(crate) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// A URL as messages have it: without a password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // That works for all URLs that can have a password.
        let _ = url.set_password(None);
    }
    quoted(url.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_redirects_stay_with_http() {
        let from = Url::parse("https://host/a/b?c").unwrap();
        let to = |location: &str| redirect(&from, location.as_bytes()).map(|url| url.to_string());
        assert_eq!(to("c").unwrap(), "https://host/a/c");
        assert_eq!(to("/c d").unwrap(), "https://host/c%20d");
        assert_eq!(to("//other/x").unwrap(), "https://other/x");
        assert_eq!(to("http://other").unwrap(), "http://other/");
        for refused in
            ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://host/", "data:,x", "unix:/x", "http://"]
        {
            assert!(matches!(to(refused), Err(Failure::Redirect { .. })), "{refused}");
        }
    }

    #[test]
    fn b11_passwords_are_not_told() {
        let text = shown(&Url::parse("http://me:secret@host/%0a").unwrap());
        assert_eq!(text, "http://me@host/%0a");
    }
}
