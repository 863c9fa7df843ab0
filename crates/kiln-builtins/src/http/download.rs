//! A download: tries, redirects, and the way of the bytes.

use super::client::Client;
use super::credentials::credentials;
use super::failure::{DownloadError, Failure};
use super::netrc::Netrc;
use super::resume::{Head, Progress};
use super::retry;
use super::settings::TransferSettings;
use super::stall::StallWatch;
use super::tls::{self, NoTls};
use crate::error::BuiltinError;
use crate::log::{Log, quoted};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::LOCATION;
use kiln_events::ActivityId;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use url::Url;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// How often progress is told at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Where what is downloaded goes to.
pub(crate) trait Sink {
    /// Forgets what has come so far: it will come again from its start.
    fn restart(&mut self) -> Result<(), BuiltinError>;

    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), BuiltinError>;
}

/// Downloads files.
pub(crate) struct Downloader<'a> {
    settings: &'a TransferSettings,
    netrc: Netrc,
    tls: Result<Arc<ClientConfig>, NoTls>,
}

/// Why a try ended.
enum Stop {
    /// The network's side.
    Failure { failure: Failure, asked: Option<Duration> },
    /// Our side: that would fail again.
    Sink(BuiltinError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, asked: None }
    }
}

impl<'a> Downloader<'a> {
    /// A downloader that trusts servers by these certificates (PEM), or by the system's.
    pub(crate) fn new(settings: &'a TransferSettings, netrc: Netrc, certificates: Option<&[u8]>) -> Self {
        Self { settings, netrc, tls: tls::client_config(certificates) }
    }

    /// Downloads what is at `url` into `sink`, which is restarted first.
    pub(crate) fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        log: &mut Log<'_>,
    ) -> Result<(), BuiltinError> {
        let fail = |url: &str, failure| DownloadError { url: quoted(url.as_bytes()), failure };
        let invalid = |error: url::ParseError| fail(url, Failure::InvalidUrl(error.to_string()));
        let parsed = parse(url).map_err(invalid)?;
        if !is_http(&parsed) {
            return Err(fail(url, Failure::UnsupportedScheme(parsed.scheme().to_owned())).into());
        }
        // One thread is enough, and the least to ask of a sandbox; only looking up names takes another one.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| fail(url, Failure::Connect(error.to_string())))?;
        let shown = shown(&parsed);
        let id = log.transfer_begins(&shown);
        let result = runtime.block_on(async {
            let client = Client::new(self.settings, self.tls.clone());
            Transfer { downloader: self, client, url: &parsed, shown: &shown, id }.run(sink, log).await
        });
        log.transfer_ends(id);
        // A name that is still being looked up is nothing to wait for.
        runtime.shutdown_background();
        result
    }
}

/// One download.
struct Transfer<'a> {
    downloader: &'a Downloader<'a>,
    client: Client,
    url: &'a Url,
    /// The URL as messages have it.
    shown: &'a str,
    /// Its name in the log.
    id: ActivityId,
}

impl Transfer<'_> {
    /// Tries until it is done or there is no use in trying.
    async fn run(&self, sink: &mut dyn Sink, log: &mut Log<'_>) -> Result<(), BuiltinError> {
        let mut progress = Progress::default();
        sink.restart()?;
        for tried in 1.. {
            let (failure, asked) = match self.attempt(&mut progress, sink, log).await {
                Ok(()) => return Ok(()),
                Err(Stop::Sink(error)) => return Err(error),
                Err(Stop::Failure { failure, asked }) => (failure, asked),
            };
            let error = DownloadError { url: self.shown.to_owned(), failure };
            let delay = retry::delay(tried, error.failure.retry(), asked, retry::chance())
                .filter(|_| tried < self.downloader.settings.download_attempts);
            let Some(delay) = delay else { return Err(error.into()) };
            if error.failure == Failure::NotResumed {
                progress = Progress::default();
            }
            let from = if progress.can_go_on() {
                format!(" from byte {}", progress.received)
            } else {
                String::new()
            };
            log.warn(&format!("{error}; retrying{from} in {} ms", delay.as_millis()));
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    async fn attempt(
        &self,
        progress: &mut Progress,
        sink: &mut dyn Sink,
        log: &mut Log<'_>,
    ) -> Result<(), Stop> {
        let mut watch = StallWatch::new(self.downloader.settings.stalled_download_timeout);
        let response = watch.wait(self.follow(progress)).await??;
        let head = progress.answered(response.status(), response.headers()).map_err(|failure| {
            let asked = retry::asked_for(response.headers(), SystemTime::now());
            Stop::Failure { failure, asked }
        })?;
        if head == Head::FromStart {
            sink.restart().map_err(Stop::Sink)?;
        }
        let mut body = response.into_body();
        let mut last_told = Instant::now();
        while let Some(frame) = watch.wait(body.frame()).await? {
            let frame = frame.map_err(|error| Failure::of_body(&error))?;
            let Some(bytes) = frame.data_ref() else { continue };
            sink.write(bytes).map_err(Stop::Sink)?;
            let length = bytes.len() as u64;
            watch.received(length);
            progress.received += length;
            if last_told.elapsed() >= PROGRESS_INTERVAL {
                last_told = Instant::now();
                log.transferred(self.id, progress.received, progress.total.unwrap_or(0));
            }
        }
        match progress.total {
            Some(expected) if expected != progress.received => {
                Err(Failure::Incomplete { received: progress.received, expected }.into())
            }
            _ => {
                log.transferred(self.id, progress.received, progress.received);
                Ok(())
            }
        }
    }

    /// Asks the server, and whomever it names, until one has something else to say than who to ask.
    async fn follow(&self, progress: &Progress) -> Result<Response<Incoming>, Failure> {
        let headers = progress.request_headers();
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let credentials = credentials(&url, self.url, &self.downloader.netrc);
            let response = self.client.get(&url, &headers, credentials).await?;
            let location = match (response.status().as_u16(), response.headers().get(LOCATION)) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location.as_bytes(),
                _ => return Ok(response),
            };
            url = redirect(&url, location)?;
        }
        Err(Failure::TooManyRedirects(MAX_REDIRECTS))
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

fn parse(url: &str) -> Result<Url, url::ParseError> {
    let mut url = Url::parse(url)?;
    url.set_fragment(None);
    Ok(url)
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// A URL as messages have it: without a password.
fn shown(url: &Url) -> String {
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
        let from = parse("https://host/a/b?c#d").unwrap();
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
        let text = shown(&parse("http://me:secret@host/%0a").unwrap());
        assert_eq!(text, "http://me@host/%0a");
    }
}
