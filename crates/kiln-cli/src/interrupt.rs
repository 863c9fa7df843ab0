//! Ctrl-C: the first ends what is under way in good order, the second at once.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, GENERAL_EXIT_CODE, While};

/// The signals by which a person or a service manager asks for the end.
struct Requests {
    interrupt: Signal,
    terminate: Signal,
}

impl Requests {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Becomes ready when somebody asks for the end. Must be called within the runtime; signals count from then on.
pub(crate) fn requested() -> io::Result<impl Future<Output = ()>> {
    let mut requests = Requests::listen()?;
    Ok(async move { requests.next().await })
}

/// The result of `work`, unless somebody asks for the end first: then `work` is dropped, which cancels it, and what
/// `aftermath` still has to wait for is waited for. Whoever asks twice does not want to wait for that either.
pub(crate) async fn or_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
    aftermath: impl Future<Output = ()>,
) -> Result<T, Failure> {
    let mut requests = Requests::listen().doing(|| "listening for signals")?;
    tokio::select! {
        result = work => return result,
        () = requests.next() => {}
    }
    tokio::select! {
        () = aftermath => Err(Failure::environment("interrupted by the user")),
        () = requests.next() => std::process::exit(i32::from(GENERAL_EXIT_CODE)),
    }
}
