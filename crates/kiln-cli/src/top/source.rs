//! Where the status comes from.

use std::path::PathBuf;
use std::time::Duration;

use kiln_daemon::status::Status;
use kiln_events::quoted;
use kiln_web::GetError;

use crate::failure::{Failure, While};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a status.
const LONGEST: usize = 64 << 20;

/// A daemon's socket for those who watch.
pub(crate) struct Source {
    socket: PathBuf,
}

impl Source {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What the daemon does now.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.parse(&self.text().await?)
    }

    /// The same as it comes.
    pub(crate) async fn text(&self) -> Result<Vec<u8>, Failure> {
        let answer = kiln_web::get(&self.socket, "/status", LONGEST, PATIENCE).await;
        let (status, body) = answer.map_err(|error| {
            let failure = Failure::environment(&error);
            match &error {
                GetError::Connect { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    failure.with_hint(
                        "only the daemon's user and group may watch: run this as root, or join that group",
                    )
                }
                GetError::Connect { .. } => failure
                    .with_hint("a daemon of Kiln listens there if its setting 'kiln-metrics-listen' says so"),
                GetError::Answer { .. } | GetError::Slow { .. } => failure,
            }
        })?;
        if !status.is_success() {
            let (socket, text) = (self.socket.display(), quoted(&body));
            return Err(Failure::environment(format!("the daemon at '{socket}' answers {status}: {text}")));
        }
        Ok(body.to_vec())
    }

    /// Reads what has come.
    pub(crate) fn parse(&self, text: &[u8]) -> Result<Status, Failure> {
        serde_json::from_slice(text).doing(|| format!("reading the answer of '{}'", self.socket.display()))
    }
}
