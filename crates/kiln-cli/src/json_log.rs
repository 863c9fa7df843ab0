//! The setting `json-log-path`: a file or a socket that gets all events as JSON objects, one in a line.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use kiln_events::internal_json::{Options, encode_object};
use kiln_events::{Event, EventSink, Verbosity};

/// How many events may wait for a slow reader before some are left out: builds never wait for who reads about them.
const QUEUED: usize = 1 << 16;

/// The sink. What it takes is written by a thread of its own.
pub(crate) struct JsonLog {
    queue: Mutex<Option<SyncSender<Event>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    left_out: AtomicU64,
}

impl JsonLog {
    /// Opens a file, to which is added, or connects to a socket.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let is_socket = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        let target: Box<dyn Write + Send> = if is_socket {
            Box::new(UnixStream::connect(path)?)
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        let (queue, events) = sync_channel(QUEUED);
        let writer = thread::Builder::new().name("json-log".to_owned());
        let writer = writer.spawn(move || write(&events, BufWriter::new(target)))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            left_out: AtomicU64::new(0),
        })
    }

    /// Waits until everything is written. Nothing is taken after that.
    pub(crate) fn finish(&self) {
        // Without a sender, the thread ends when it has written what is queued.
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // If it panicked there is nothing left to write with.
            let _ = writer.join();
        }
    }
}

impl EventSink for JsonLog {
    fn emit(&self, event: Event) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            let note = Event::message(Verbosity::Warn, format!("{left_out} events were left out here"));
            if queue.try_send(note).is_ok() {
                self.left_out.store(0, Ordering::Relaxed);
            }
        }
        if queue.try_send(event).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes events until there are no more to come, or nobody reads.
fn write(events: &Receiver<Event>, mut target: BufWriter<Box<dyn Write + Send>>) {
    let options = Options { show_trace: true };
    while let Ok(event) = events.recv() {
        let mut line = encode_object(&event, options);
        line.push('\n');
        // Whatever has gathered meanwhile goes out together.
        let more = events.try_iter().map(|event| encode_object(&event, options) + "\n");
        line.extend(more.take(1000));
        if target.write_all(line.as_bytes()).and_then(|()| target.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn files_are_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for text in ["a", "b"] {
            let log = JsonLog::open(&path).unwrap();
            log.emit(Event::message(Verbosity::Info, text));
            log.finish();
            log.emit(Event::message(Verbosity::Info, "too late"));
        }
        let object = |text: &str| format!("{{\"action\":\"msg\",\"level\":3,\"msg\":\"{text}\"}}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), object("a") + &object("b"));
    }

    #[test]
    fn sockets_are_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let log = JsonLog::open(&path).unwrap();
        log.emit(Event::message(Verbosity::Info, "a"));
        log.finish();
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"msg\":\"a\""), "{text}");
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let log = JsonLog::open(&path).unwrap();
        let line = "x".repeat(1000);
        for _ in 0..3 * QUEUED {
            log.emit(Event::message(Verbosity::Info, line.as_str()));
        }
        assert!(log.left_out.load(Ordering::Relaxed) > 0);
        // Who goes away without reading does not hold up the end either.
        drop(listener);
        log.finish();
    }
}
