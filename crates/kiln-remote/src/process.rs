//! A process that serves this client at its standard input and output: ssh, or a daemon of one's own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kiln_events::{Colours, safe_text};
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The most bytes of what is said that are kept, the last ones: they tell why it ended.
const WORDS: usize = 4096;

/// How long ssh may take to end when its connection has.
const END: Duration = Duration::from_secs(2);

/// A process through which a daemon is talked to; killed with this value.
pub(crate) struct DaemonProcess {
    child: Child,
    said: Arc<Mutex<Said>>,
    listening: JoinHandle<()>,
    /// A file that it reads, which is deleted in the end.
    _file: Option<NamedTempFile>,
}

/// What is said on standard error.
#[derive(Default)]
struct Said {
    last: VecDeque<u8>,
    /// Who gets what comes from now on.
    listener: Option<Sender<Bytes>>,
}

impl DaemonProcess {
    /// Starts a program, and returns before anybody knows whether it can serve. `file` is kept as long as it may read it.
    ///
    /// # Errors
    /// It can't be run.
    pub(crate) fn start(
        words: &[OsString],
        variables: &[(OsString, OsString)],
        file: Option<NamedTempFile>,
    ) -> io::Result<(UnixStream, Self)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let theirs = OwnedFd::from(theirs);
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            // On this machine a daemon could take itself for the store that it is to serve, without end.
            .env_remove("NIX_REMOTE")
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot run '{}': {error}", program.display()))
            })?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let said = Arc::<Mutex<Said>>::default();
        let listening = tokio::spawn(listen(stderr, Arc::clone(&said)));
        Ok((UnixStream::from_std(ours)?, Self { child, said, listening, _file: file }))
    }

    /// Says that there is a connection: what was said until now has told of no failure. `listener` gets what comes.
    pub(crate) fn connected(&self, listener: Option<Sender<Bytes>>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Said { listener, ..Said::default() };
    }

    /// Waits for the end of it, and of what is said, when its connection has been closed.
    pub(crate) async fn end(&mut self) {
        // It ends by itself, unless it was not ssh who closed the connection.
        let _ = timeout(END, self.child.wait()).await;
        let _ = self.child.start_kill();
        let _ = timeout(END, &mut self.listening).await;
    }

    /// What ssh, or the program there, has said last about why the connection ended; nothing if it has said nothing.
    pub(crate) async fn last_words(&mut self) -> Option<String> {
        self.end().await;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let words = safe_text(said.last.make_contiguous(), Colours::Strip).trim().to_owned();
        (!words.is_empty()).then_some(words)
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        // Somebody who was started there may hold standard error open.
        self.listening.abort();
    }
}

/// Reads to the end, so that nobody waits for room.
async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<Said>>) {
    let mut chunk = [0; WORDS];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        let bytes = chunk.get(..length).unwrap_or_default();
        let listener = {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.last.extend(bytes);
            let excess = said.last.len().saturating_sub(WORDS);
            said.last.drain(..excess);
            said.listener.clone()
        };
        if let Some(listener) = listener {
            // Who doesn't listen any more misses something, but the other end goes on.
            let _ = listener.send(Bytes::copy_from_slice(bytes)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_kept_and_bounded() {
        let script = format!("yes | head -c {} >&2; printf '\\n\\033[1mno \\a%s' \"$V\" >&2", WORDS * 9);
        let words = ["sh".into(), "-c".into(), script.into()];
        let (stream, mut process) =
            DaemonProcess::start(&words, &[("V".into(), "way".into())], None).unwrap();
        stream.readable().await.unwrap();
        assert_eq!(stream.try_read(&mut [0]).unwrap(), 0, "an end");
        let words = process.last_words().await.unwrap();
        assert!(words.ends_with("\nno way") && words.len() <= WORDS, "{words:?}");
        let error = DaemonProcess::start(&["/none".into()], &[], None).map(drop).unwrap_err();
        assert!(error.to_string().contains("cannot run '/none'"), "{error}");
    }

    #[tokio::test]
    async fn what_is_said_once_there_is_a_connection_is_heard_to_its_end() {
        let script = "echo before >&2; read line; seq 3000 >&2; exec <&-; seq 3001 6000 >&2";
        let words = ["sh".into(), "-c".into(), script.into()];
        let (stream, mut process) = DaemonProcess::start(&words, &[], None).unwrap();
        // Until the greeting has come.
        while process.said.lock().unwrap().last.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        process.connected(Some(sender));
        let hearing = tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Some(bytes) = receiver.recv().await {
                heard.extend_from_slice(&bytes);
            }
            heard
        });
        stream.try_write(b"go\n").unwrap();
        drop(stream);
        process.end().await;
        drop(process);
        let expected: String = (1..=6000).map(|number| format!("{number}\n")).collect();
        assert!(hearing.await.unwrap() == expected.into_bytes());
    }
}
