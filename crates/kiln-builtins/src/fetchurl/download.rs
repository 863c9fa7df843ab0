//! A download in the builder's own process, told in its log.

use super::destination::Destination;
use crate::error::BuiltinError;
use crate::log::Log;
use kiln_http::{Authorities, Client, Download, DownloadError, Failure, Netrc, Piece, TransferSettings};
use std::time::{Duration, Instant};

/// How often progress is told at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Connections that are kept for another request: none. A download is one request, mostly, and a connection that a server
/// closes while it is kept would look like a failure of the next one.
const KEPT: usize = 0;

/// Downloads files.
pub(super) struct Downloader<'a> {
    pub(super) settings: &'a TransferSettings,
    pub(super) netrc: Netrc,
    pub(super) authorities: Authorities,
}

impl Downloader<'_> {
    /// Downloads what is at `url` into `destination`, which is restarted first.
    pub(super) fn download(
        &self,
        url: &str,
        destination: &mut Destination<'_>,
        log: &mut Log<'_>,
    ) -> Result<(), BuiltinError> {
        // One thread is enough, and the least to ask of a sandbox; only looking up names takes another one.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                let url = kiln_events::quoted(url.as_bytes());
                DownloadError { url, failure: Failure::Connect(error.to_string()) }
            })?;
        let result = runtime.block_on(async {
            let client = Client::new(self.settings, self.netrc.clone(), &self.authorities, KEPT);
            let download = client.download(url)?;
            let id = log.transfer_begins(download.shown_url());
            let result = transfer(download, destination, |progress| match progress {
                Progress::Bytes(done, expected) => log.transferred(id, done, expected),
                Progress::Warning(text) => log.warn(&text),
            });
            let result = result.await;
            log.transfer_ends(id);
            result
        });
        // A name that is still being looked up is nothing to wait for.
        runtime.shutdown_background();
        result
    }
}

/// What there is to tell of a download.
enum Progress {
    /// How much has come, of how much; 0 if that isn't known.
    Bytes(u64, u64),
    Warning(String),
}

async fn transfer(
    mut download: Download,
    destination: &mut Destination<'_>,
    mut tell: impl FnMut(Progress),
) -> Result<(), BuiltinError> {
    destination.restart()?;
    let mut last_told = Instant::now();
    while let Some(piece) = download.next().await? {
        match piece {
            Piece::Start { .. } => destination.restart()?,
            Piece::Bytes(bytes) => destination.write(&bytes)?,
            Piece::Retry(retry) => tell(Progress::Warning(retry.to_string())),
        }
        if last_told.elapsed() >= PROGRESS_INTERVAL {
            last_told = Instant::now();
            let (received, total) = download.progress();
            tell(Progress::Bytes(received, total.unwrap_or(0)));
        }
    }
    let (received, _) = download.progress();
    tell(Progress::Bytes(received, received));
    Ok(())
}
