//! A proxy that cuts the first answer with an archive in the middle.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Between clients and a server, on a free port of the loopback interface.
pub(crate) struct CuttingProxy {
    pub(crate) url: String,
    address: std::net::SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    server: String,
    /// How many bytes of the answer come through.
    length: usize,
    has_cut: AtomicBool,
    ended: AtomicBool,
}

impl CuttingProxy {
    pub(crate) fn before(server: &str, length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { server: server.to_owned(), length, has_cut: false.into(), ended: false.into() };
        let state = Arc::new(state);
        let accepting = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            while let Ok((client, _)) = listener.accept() {
                if accepting.ended.load(Ordering::SeqCst) {
                    break;
                }
                let state = Arc::clone(&accepting);
                threads.push(std::thread::spawn(move || drop(state.relay(client))));
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Self { url: format!("http://{address}"), address, state, thread: Some(thread) }
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.state.has_cut.load(Ordering::SeqCst)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// One request to a connection.
    fn relay(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if client.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.extend_from_slice(&byte);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let is_archive = text.starts_with("GET /nar/");
        let mut server = TcpStream::connect(&self.server)?;
        server.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        if is_archive && answer.len() > self.length && !self.has_cut.swap(true, Ordering::SeqCst) {
            answer.truncate(self.length);
        }
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)
    }
}
