//! The collector's socket, `gc-socket/socket` in the state directory, at which others announce temporary roots.
//!
//! A client sends lines, each a full store path, and gets the byte `1` for each as soon as the collector will leave the path
//! alone. One thread serves all clients. What a client costs is bounded: who sends what is no line, or doesn't read its answers,
//! is dropped, and if there are too many, so is who has been silent for longest. Clients that are dropped begin anew.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use kiln_events::EventSender;
use kiln_fs::{Component, Directory};
use kiln_store_path::{StoreDir, StorePath};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, chmodat};

use super::announced::Announced;
use crate::error::{During, Result};

/// Clients at the same time.
const MOST_CLIENTS: usize = 500;

/// Longest line.
const LONGEST_LINE: usize = 4096;

/// A socket that nobody can reach yet.
pub(super) struct BoundSocket {
    listener: UnixListener,
    directory: Directory,
    scratch: Component,
}

/// A socket at which a thread answers until this is dropped.
#[derive(Debug)]
pub(super) struct ServedSocket {
    announced: Arc<Announced>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BoundSocket {
    /// Makes the socket under another name. That is done before the lock is taken: a client that finds the lock taken
    /// and no socket is lost in some versions of Nix.
    pub(super) fn bind(state: &Directory) -> Result<Self> {
        let component = |name: &str| Component::new(name).map_err(kiln_fs::Error::from);
        let name = component("gc-socket")?;
        let directory = match state.create_directory(&name, 0o755) {
            Err(error) if error.already_exists() => state.subdirectory(&name)?,
            result => result?,
        };
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let scratch = component(&format!("socket.{}-{number}", std::process::id()))?;
        directory.remove_file(&scratch)?;
        let path = directory.path_of(&scratch);
        // This way the path is short enough for an address, wherever the state directory is.
        let place = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
        let listener = UnixListener::bind(place.join(scratch.as_path())).during("listen at", &path)?;
        listener.set_nonblocking(true).during("listen at", &path)?;
        // Everybody who may use the store may keep others from deleting what he uses.
        chmodat(&directory, scratch.as_path(), Mode::from_raw_mode(0o666), rustix::fs::AtFlags::empty())
            .during("change the permissions of", &path)?;
        Ok(Self { listener, directory, scratch })
    }

    /// Gives the socket its name, and answers there. The collector's lock must be held.
    pub(super) fn serve(
        self,
        announced: Arc<Announced>,
        store_dir: StoreDir,
        events: EventSender,
    ) -> Result<ServedSocket> {
        let path = self.directory.path().join("socket");
        rustix::fs::renameat(&self.directory, self.scratch.as_path(), &self.directory, "socket")
            .during("listen at", &path)?;
        let end = Arc::new(AtomicBool::new(false));
        let mut server = Server {
            listener: self.listener.try_clone().during("listen at", &path)?,
            store_dir,
            events,
            announced: announced.clone(),
            end: end.clone(),
            clients: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("temporary roots".to_owned())
            .spawn(move || server.serve())
            .during("start a thread to serve", &path)?;
        // The name stays for ever: clients that find nobody there try again.
        Ok(ServedSocket { announced, end, thread: Some(thread) })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // It has another name if it is served.
        let _ = self.directory.remove_file(&self.scratch);
    }
}

impl Drop for ServedSocket {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        self.announced.wake();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: UnixListener,
    store_dir: StoreDir,
    events: EventSender,
    announced: Arc<Announced>,
    end: Arc<AtomicBool>,
    /// Who was heard of last comes last.
    clients: Vec<Client>,
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    /// Announced, but being deleted: not answered yet.
    waits_for: Option<StorePath>,
}

impl Server {
    fn serve(&mut self) {
        while !self.end.load(Ordering::SeqCst) {
            let (is_new, ready) = self.wait();
            self.announced.take_changes();
            let mut silent = Vec::new();
            let mut heard = Vec::new();
            for (mut client, ready) in std::mem::take(&mut self.clients).into_iter().zip(ready) {
                if !ready && client.waits_for.is_none() {
                    silent.push(client);
                } else if self.attend(&mut client, ready) {
                    heard.push(client);
                }
            }
            silent.append(&mut heard);
            self.clients = silent;
            if is_new {
                self.accept();
            }
        }
    }

    /// Waits until there is something to do: whether somebody wants to connect, and who has sent something.
    fn wait(&self) -> (bool, Vec<bool>) {
        let changes = self.announced.changes();
        let mut wanted = vec![
            PollFd::from_borrowed_fd(changes, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        wanted.extend(self.clients.iter().map(|client| {
            // Who waits for an answer isn't listened to, but is noticed when it goes away.
            let flags = if client.waits_for.is_some() { PollFlags::empty() } else { PollFlags::IN };
            PollFd::from_borrowed_fd(client.stream.as_fd(), flags)
        }));
        if poll(&mut wanted, None).is_err() {
            return (false, vec![false; self.clients.len()]);
        }
        let mut ready = wanted.iter().map(|fd| !fd.revents().is_empty()).skip(1);
        let is_new = ready.next().unwrap_or(false);
        (is_new, ready.collect())
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.clients.push(Client { stream, input: Vec::new(), waits_for: None });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // There are no more descriptors, or nobody is there any more.
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.drop_silent();
                    }
                    return;
                }
            }
            if self.clients.len() > MOST_CLIENTS {
                self.drop_silent();
            }
        }
    }

    /// Drops the client that has been silent for longest.
    fn drop_silent(&mut self) {
        if !self.clients.is_empty() {
            self.clients.remove(0);
        }
    }

    /// Reads and answers what a client has to say; false if it is done with.
    fn attend(&self, client: &mut Client, is_ready: bool) -> bool {
        if !self.answer(client) {
            return false;
        }
        if client.waits_for.is_some() {
            // It can only have gone away.
            return !is_ready;
        }
        if !is_ready {
            return true;
        }
        let mut piece = [0; LONGEST_LINE];
        match client.stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(length) => client.input.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        self.answer(client) && client.input.len() <= 2 * LONGEST_LINE
    }

    /// Answers as many lines as can be answered now; false if the client doesn't take the answers.
    fn answer(&self, client: &mut Client) -> bool {
        loop {
            if let Some(path) = &client.waits_for {
                if self.announced.is_being_deleted(path) {
                    return true;
                }
                client.waits_for = None;
                if !matches!(client.stream.write(b"1"), Ok(1)) {
                    return false;
                }
            }
            let Some(end) = client.input.iter().position(|&byte| byte == b'\n') else {
                return client.input.len() < LONGEST_LINE;
            };
            let line: Vec<u8> = client.input.drain(..=end).take(end).collect();
            match self.store_dir.parse(&line) {
                Ok(path) => {
                    self.announced.announce(&path);
                    client.waits_for = Some(path);
                }
                Err(error) => {
                    self.events.warn(format!("received a temporary root that is no store path: {error}"));
                    if !matches!(client.stream.write(b"1"), Ok(1)) {
                        return false;
                    }
                }
            }
        }
    }
}
