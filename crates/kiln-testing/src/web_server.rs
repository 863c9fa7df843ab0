//! A web server that gives out the files of a directory, takes new ones, and fails as a test tells it: real sockets, HTTP/1.1.
//!
//! Connections stay open as long as clients want them, each on a thread of its own. All end when the server is dropped,
//! those that are meant to say nothing for ever among them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does instead of sending a file.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It answers with this status and these lines of a head, and a web page about it.
    Status(u16, Vec<String>),
    /// It sends this instead.
    Body(Vec<u8>),
    /// It sends this with more lines of a head, such as a `Content-Encoding`.
    BodyWith(Vec<String>, Vec<u8>),
    /// It breaks the connection, with a reset, after so many bytes of the whole answer.
    ResetAfter(usize),
    /// It closes the connection after so many bytes of the whole answer.
    CloseAfter(usize),
    /// It accepts the request and says nothing for ever.
    Silence,
    /// It sends so many bytes of the body at a time, and waits between them.
    Trickle(usize, Duration),
    /// It waits before it answers, and then does what it should.
    Delay(Duration),
    /// It answers when something with this in its path has been asked for too, and does what it should; with the status 504 if
    /// nobody asks for that.
    After(String),
    /// It sends the file, and after it more and more, without an end.
    Endless,
    /// It sends a head without an end.
    EndlessHead,
    /// It sends what isn't HTTP.
    Garbage,
}

/// A rule: requests for paths with this in them meet the fault, so many times.
struct Rule {
    pattern: String,
    left: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    root: Mutex<PathBuf>,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<String>>,
    connections: Mutex<HashMap<usize, TcpStream>>,
    accepted: AtomicUsize,
    answering: AtomicUsize,
    most_at_once: AtomicUsize,
    has_no_ranges: AtomicBool,
    ended: AtomicBool,
}

/// A server on a free port of the loopback interface.
pub struct WebServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Serves the files of a directory.
    ///
    /// # Panics
    /// If there is no port for it.
    pub fn serving(root: &Path) -> Self {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            listen().unwrap_or_else(|error: io::Error| panic!("cannot start a web server: {error}"));
        let state = Arc::new(State { root: Mutex::new(root.to_path_buf()), ..State::default() });
        let accepting = Arc::clone(&state);
        let thread = std::thread::spawn(move || accepting.accept(&listener));
        Self { address, state, thread: Some(thread) }
    }

    /// Its URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its URL under another name: for clients that is another server.
    pub fn other_url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// Has the next `times` requests for paths with `pattern` in them meet a fault; earlier rules come first.
    pub fn fault(&self, pattern: &str, times: usize, fault: Fault) {
        lock(&self.state.rules).push(Rule { pattern: pattern.to_owned(), left: times, fault });
    }

    /// Has everything go well again.
    pub fn heal(&self) {
        lock(&self.state.rules).clear();
    }

    /// Sends no parts of files from now on.
    pub fn without_ranges(self) -> Self {
        self.state.has_no_ranges.store(true, Ordering::SeqCst);
        self
    }

    /// The requests so far: method and path, and the range if one was asked for.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state.requests).clone()
    }

    /// How many requests for paths with `pattern` in them there were.
    pub fn count(&self, pattern: &str) -> usize {
        lock(&self.state.requests).iter().filter(|request| request.contains(pattern)).count()
    }

    /// How many requests the server was answering at the same time at most.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
        for stream in lock(&self.state.connections).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request, as far as the server looks at it.
struct Request {
    method: String,
    path: String,
    from: Option<usize>,
    closes: bool,
    body: Vec<u8>,
}

/// Whether the connection can be used for the next request.
type Goes = io::Result<bool>;

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            if self.ended.load(Ordering::SeqCst) {
                break;
            }
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            if let Ok(clone) = stream.try_clone() {
                lock(&self.connections).insert(number, clone);
            }
            let state = Arc::clone(self);
            threads.push(std::thread::spawn(move || {
                state.converse(stream, number);
                lock(&state.connections).remove(&number);
            }));
        }
        for stream in lock(&self.connections).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Waits for a request with this in its path, and says whether it came.
    fn waits_for(&self, pattern: &str) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !self.ended.load(Ordering::SeqCst) {
            if lock(&self.requests).iter().any(|request| request.contains(pattern)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn converse(&self, mut stream: TcpStream, number: usize) {
        let _ = stream.set_nodelay(true);
        while let Some(request) = read_request(&mut stream) {
            let range = request.from.map(|from| format!(" from {from}")).unwrap_or_default();
            lock(&self.requests).push(format!("{} {}{range}", request.method, request.path));
            let at_once = self.answering.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            let goes = self.answer(&mut stream, number, &request);
            self.answering.fetch_sub(1, Ordering::SeqCst);
            if !goes.unwrap_or(false) || request.closes {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn answer(&self, stream: &mut TcpStream, number: usize, request: &Request) -> Goes {
        let fault = self.next_fault(&request.path);
        let (head, body) = match &fault {
            Some(Fault::After(pattern)) if !self.waits_for(pattern) => answer(504, &[], b""),
            Some(Fault::Status(status, lines)) => answer(*status, lines, b"<html>trouble</html>"),
            Some(Fault::Body(body)) => answer(200, &[], body),
            Some(Fault::BodyWith(lines, body)) => answer(200, lines, body),
            _ if request.method == "PUT" => self.take(request),
            _ => self.file(request),
        };
        let body = if request.method == "HEAD" { Vec::new() } else { body };
        match fault {
            Some(Fault::Silence) => return wait_for_end(stream),
            Some(Fault::Garbage) => return stream.write_all(b"SSH-2.0-OpenSSH\r\n").map(|()| false),
            Some(Fault::EndlessHead) => return endless_head(stream),
            Some(Fault::Delay(time)) => self.sleep(time),
            Some(Fault::ResetAfter(length)) => {
                stream.write_all(start(&[head, body].concat(), length))?;
                lock(&self.connections).remove(&number);
                set_socket_linger(&*stream, Some(Duration::ZERO))?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Some(Fault::CloseAfter(length)) => {
                return stream.write_all(start(&[head, body].concat(), length)).map(|()| false);
            }
            Some(Fault::Trickle(length, time)) => return self.trickle(stream, &head, &body, length, time),
            Some(Fault::Endless) => return endless_body(stream, &body),
            _ => {}
        }
        stream.write_all(&[head, body].concat()).map(|()| true)
    }

    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().find(|rule| rule.left > 0 && path.contains(&rule.pattern))?;
        rule.left -= 1;
        Some(rule.fault.clone())
    }

    /// Keeps a file that a client has sent, in place of an older one.
    fn take(&self, request: &Request) -> (Vec<u8>, Vec<u8>) {
        let file = lock(&self.root).join(request.path.trim_start_matches('/'));
        let directory = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        match directory.and_then(|()| std::fs::write(&file, &request.body)) {
            Ok(()) => answer(201, &[], b""),
            Err(error) => answer(500, &[], error.to_string().as_bytes()),
        }
    }

    /// The file, or the rest of it.
    fn file(&self, request: &Request) -> (Vec<u8>, Vec<u8>) {
        let relative = request.path.trim_start_matches('/');
        let has_ranges = !self.has_no_ranges.load(Ordering::SeqCst);
        let file = lock(&self.root).join(relative);
        let Ok(bytes) = std::fs::read(file) else { return answer(404, &[], b"<html>not found</html>") };
        let accepted = if has_ranges { vec!["Accept-Ranges: bytes".to_owned()] } else { Vec::new() };
        match request.from.and_then(|from| bytes.get(from..).map(|rest| (from, rest))) {
            Some((from, rest)) if has_ranges && !rest.is_empty() => {
                let total = bytes.len();
                let range = format!("Content-Range: bytes {from}-{}/{total}", total.saturating_sub(1));
                answer(206, &[accepted, vec![range]].concat(), rest)
            }
            _ => answer(200, &accepted, &bytes),
        }
    }

    fn trickle(
        &self,
        stream: &mut TcpStream,
        head: &[u8],
        body: &[u8],
        length: usize,
        time: Duration,
    ) -> Goes {
        stream.write_all(head)?;
        for piece in body.chunks(length.max(1)) {
            stream.write_all(piece)?;
            self.sleep(time);
        }
        Ok(true)
    }

    /// Sleeps, but not beyond the end of the server.
    fn sleep(&self, time: Duration) {
        const MOMENT: Duration = Duration::from_millis(20);
        let mut left = time;
        while !left.is_zero() && !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(left.min(MOMENT));
            left = left.saturating_sub(MOMENT);
        }
    }
}

/// Head and body of an answer.
fn answer(status: u16, lines: &[String], body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n{lines}\r\n", body.len());
    (head.into_bytes(), body.to_vec())
}

fn start(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 64 << 10 || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let from =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    let whole = stream.take(length).read_to_end(&mut body).ok()? as u64 == length;
    whole.then_some(Request { method, path, from, closes, body })
}

/// Waits until the other end, or the server, closes the connection.
fn wait_for_end(stream: &mut TcpStream) -> Goes {
    let mut rest = [0; 1024];
    while stream.read(&mut rest)? > 0 {}
    Ok(false)
}

fn endless_head(stream: &mut TcpStream) -> Goes {
    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    loop {
        stream.write_all(&[b"X: ".as_slice(), &[b'x'; 8000], b"\r\n"].concat())?;
    }
}

/// A body whose length nobody knows, since it has none.
fn endless_body(stream: &mut TcpStream, body: &[u8]) -> Goes {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut chunk = |bytes: &[u8]| {
        let head = format!("{:x}\r\n", bytes.len());
        stream.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat())
    };
    if !body.is_empty() {
        chunk(body)?;
    }
    loop {
        chunk(&[0; 8192])?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
