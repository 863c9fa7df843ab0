//! A server on a store with one large path, and the simplest client.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kiln_events::{Event, EventSender, EventSink};
use kiln_hash::Algorithm;
use kiln_narinfo::PathInfo;
use kiln_serve::{Limits, Listener, ServeConfig, Server};
use kiln_store::{LocalStore, Locations, NewObject, StoreConfig};
use kiln_store_path::{ContentAddressMethod, StoreDir, StorePathName};
use kiln_testing::ScratchDirectory;
use tokio::sync::oneshot;

/// More than sockets have room for.
const LARGE: u64 = 24 << 20;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cache {
    address: String,
    info: Arc<PathInfo>,
    log: Arc<Log>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    scratch: ScratchDirectory,
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl EventSink for Log {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

impl Cache {
    pub(crate) fn with(limits: Limits) -> Self {
        let scratch = ScratchDirectory::new();
        let source = scratch.path().join("source");
        fs::create_dir(&source).unwrap();
        // What no compression makes smaller.
        let mut random = fs::File::open("/dev/urandom").unwrap().take(LARGE);
        io::copy(&mut random, &mut fs::File::create(source.join("large")).unwrap()).unwrap();
        fs::write(source.join("small"), "small").unwrap();
        let root = scratch.path().join("root");
        let config = StoreConfig {
            sync_metadata: false,
            reserved_space: 0,
            ..StoreConfig::new(Locations {
                store_dir: StoreDir::default(),
                real_dir: root.join("nix/store"),
                state_dir: root.join("nix/var/nix"),
                log_dir: root.join("nix/var/log/nix"),
                build_dir: root.join("nix/var/nix/builds"),
            })
        };
        let log = Arc::new(Log::default());
        let events = EventSender::new(log.clone());
        let (end, ended) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = LocalStore::open(config, Arc::new(|_| {})).await.unwrap();
                let object = NewObject {
                    name: StorePathName::new("large").unwrap(),
                    method: ContentAddressMethod::Nar,
                    algorithm: Algorithm::Sha256,
                    references: Default::default(),
                };
                let info = store.add_tree(object, &source, None).await.unwrap();
                let mut listener = Listener::new();
                listener.add_address("127.0.0.1:0").await.unwrap();
                ready.send((listener.places()[0].clone(), info)).unwrap();
                let server = Server::new(store, ServeConfig { limits, ..ServeConfig::default() }, events);
                server.serve(listener, async { drop(ended.await) }).await;
            });
            runtime.shutdown_background();
        });
        let (url, info) = address.recv().unwrap();
        let address = url.strip_prefix("http://").unwrap().to_owned();
        Self { address, info, log, end: Some(end), thread: Some(thread), scratch }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to a request.
    pub(crate) fn get(&self, target: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        read_to_end(&mut stream)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The URL of the path's archive.
    pub(crate) fn archive(&self) -> String {
        format!("/nar/{}-{}.nar", self.info.path.digest(), self.info.nar_hash.nix32())
    }

    /// The size of the path's archive.
    pub(crate) fn size(&self) -> u64 {
        self.info.nar_size
    }

    /// Makes a file of the path shorter than it was.
    pub(crate) fn damage(&self) {
        let directory = self.scratch.path().join("root/nix/store").join(self.info.path.base_name());
        let file = directory.join("small");
        let mut permissions = fs::metadata(&file).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(&file, permissions).unwrap();
        fs::write(file, "").unwrap();
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }

    pub(crate) fn ask_to_end(&mut self) {
        drop(self.end.take());
    }

    pub(crate) fn wait_for_end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}: {:?}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.ask_to_end();
        // A test that fails must not wait for what it has left open.
        if !std::thread::panicking() {
            self.wait_for_end();
        }
    }
}

/// Everything until the end, which may be a broken connection, as text.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
