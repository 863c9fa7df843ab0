//! The sink that writes.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kiln_events::{Event, EventSink, Verbosity};

use crate::log_format::LogFormat;
use crate::presentation::{Presentation, WindowSize};
use crate::renderer::{Options, Renderer};

/// The least time between two frames on a terminal.
const FRAME: Duration = Duration::from_millis(100);
/// The least time between two writes where there is none: each wakes a thread.
const WRITE: Duration = Duration::from_millis(10);

/// Events on a terminal or in a log.
///
/// [`EventSink::emit`] only takes note; a thread of the console's own writes. [`Console::finish`], or dropping it, writes
/// what is left and removes the status lines; what is emitted after that is lost.
pub struct Console {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    began: Instant,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    renderer: Renderer,
    finishing: bool,
    /// The writer waits for something to do, and not only for the time to do it.
    is_idle: bool,
}

impl Inner {
    fn has_work(&self) -> bool {
        self.renderer.has_pending() || self.renderer.has_status()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Console {
    /// A console that writes to `output`; `window` tells the size of the terminal's window when it is asked.
    pub fn new(
        options: Options,
        output: Box<dyn Write + Send>,
        window: Box<dyn Fn() -> WindowSize + Send>,
    ) -> io::Result<Console> {
        let inner = Mutex::new(Inner { renderer: Renderer::new(options), finishing: false, is_idle: false });
        let shared = Arc::new(Shared { began: Instant::now(), inner, changed: Condvar::new() });
        let writer = Writer { shared: shared.clone(), output: Some(output), window };
        let writer = thread::Builder::new().name("console".to_owned()).spawn(move || writer.run())?;
        Ok(Console { shared, writer: Mutex::new(Some(writer)) })
    }

    /// A console that writes to standard error, which `presentation` describes.
    pub fn stderr(
        format: LogFormat,
        verbosity: Verbosity,
        presentation: Presentation,
        show_trace: bool,
    ) -> io::Result<Console> {
        let options = Options { format, verbosity, presentation, show_trace };
        Console::new(options, Box::new(io::stderr()), Box::new(WindowSize::detect))
    }

    /// Writes what is left, removes the status lines, and waits until that is done.
    pub fn finish(&self) {
        self.shared.lock().finishing = true;
        self.shared.changed.notify_all();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // The thread has no reason to panic; if it did, there is nothing left to write with.
            let _ = writer.join();
        }
    }
}

impl EventSink for Console {
    fn emit(&self, event: Event) {
        let mut inner = self.shared.lock();
        let now = self.shared.began.elapsed();
        inner.renderer.event(&event, now);
        let is_wanted = inner.is_idle && inner.has_work();
        drop(inner);
        if is_wanted {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The thread's part.
struct Writer {
    shared: Arc<Shared>,
    /// None once nobody reads any more.
    output: Option<Box<dyn Write + Send>>,
    window: Box<dyn Fn() -> WindowSize + Send>,
}

impl Writer {
    fn run(mut self) {
        let mut last_frame: Option<Instant> = None;
        loop {
            let inner = self.wait(last_frame);
            last_frame = Some(Instant::now());
            let bytes = self.frame(inner);
            match bytes {
                Frame::Next(bytes) => self.write(&bytes),
                Frame::Last(bytes) => return self.write(&bytes),
            }
        }
    }

    /// Waits until there is something to write, and some time has passed since the last time.
    fn wait(&self, last_frame: Option<Instant>) -> MutexGuard<'_, Inner> {
        let mut inner = self.shared.lock();
        loop {
            let least = if inner.renderer.draws_status() { FRAME } else { WRITE };
            let until_frame = last_frame.map_or(Duration::ZERO, |last| least.saturating_sub(last.elapsed()));
            inner = match (inner.finishing, inner.has_work()) {
                (true, _) => return inner,
                (false, true) if until_frame.is_zero() => return inner,
                (false, true) => {
                    let waited = self.shared.changed.wait_timeout(inner, until_frame);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                (false, false) => {
                    inner.is_idle = true;
                    let mut woken = self.shared.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                    woken.is_idle = false;
                    woken
                }
            };
        }
    }

    fn frame(&self, mut inner: MutexGuard<'_, Inner>) -> Frame {
        let window = (self.window)();
        if inner.finishing {
            return Frame::Last(inner.renderer.finish(window));
        }
        Frame::Next(inner.renderer.output(window, self.shared.began.elapsed()))
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let written =
            self.output.as_mut().map(|output| output.write_all(bytes).and_then(|()| output.flush()));
        if matches!(written, Some(Err(_))) {
            self.output = None;
        }
    }
}

enum Frame {
    Next(Vec<u8>),
    Last(Vec<u8>),
}
