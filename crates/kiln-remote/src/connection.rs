//! One connection: its handshake, and one request after the other, each with its log phase and its reply. The serve protocol
//! has no log phase ([`serve`]).

mod serve;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kiln_events::{ActivityId, EventSender};
use kiln_protocol::worker::handshake::{ClientHandshake, HandshakeError, ServerGreeting};
use kiln_protocol::worker::request::SetOptions;
use kiln_protocol::worker::{LogError, LogMessage, RequestPayload, WorkerRequest};
use kiln_protocol::{Dialect, Protocol, Version};
use kiln_settings::SshProtocol;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use crate::address::{DaemonAddress, DaemonPlace};
use crate::channel::{Input, Output, connect};
use crate::error::{Error, Fault, Refusal, Result};
use crate::limits::{HANDSHAKE, LOG_MESSAGE, QUESTION, reply};
use crate::payload::{answer_pull, send_frames, send_raw};
use crate::process::DaemonProcess;
use crate::relay::Relay;
use crate::ssh;

/// How long an answer is waited for that a daemon may have sent before it closed the connection.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How many requests are sent before the first is answered. Their replies have room on the way, so that nobody waits for
/// the other to read.
const AT_ONCE: usize = 64;

/// Whom to tell what a daemon says while it works, and as a part of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) events: &'a EventSender,
    pub(crate) parent: ActivityId,
}

/// A connection that has been agreed on.
pub(crate) struct Connection {
    pub(crate) input: Input,
    output: Output,
    dialect: Dialect,
    greeting: ServerGreeting,
    /// Whether the last operation has ended as the protocol says, so that there can be another one.
    usable: bool,
    /// What it goes through, if that is no socket.
    process: Option<DaemonProcess>,
}

impl Connection {
    /// Connects, agrees on a version, and says what this client wishes. `output` gets what is said on standard error beside
    /// the serve protocol, which is what builders say.
    pub(crate) async fn open(
        address: &DaemonAddress,
        options: Option<&SetOptions>,
        output: Option<&Sender<Bytes>>,
        told: Told<'_>,
    ) -> Result<Self> {
        let opening = async {
            match &address.place {
                DaemonPlace::Socket(socket) => {
                    let stream = connect(socket)
                        .await
                        .map_err(|source| Error::Connect { daemon: address.name.clone(), source })?;
                    Self::agree(address, stream, options, told).await
                }
                DaemonPlace::Ssh { machine, options } => {
                    let unreachable = |reason| Error::Unreachable { daemon: address.name.clone(), reason };
                    let started =
                        ssh::start(machine, options).map_err(|error| unreachable(error.to_string()))?;
                    let protocol = match machine.protocol {
                        SshProtocol::Worker => Protocol::Worker,
                        SshProtocol::Serve => Protocol::Serve,
                    };
                    // Nix wishes nothing of daemons there, whose settings are those of their machine.
                    Self::through(started, protocol, address, (None, output, told))
                        .await
                        .map_err(|(error, words)| words.map_or(error, unreachable))
                }
                DaemonPlace::Program { words, variables } => {
                    let failed = |source| Error::Connect { daemon: address.name.clone(), source };
                    let started = DaemonProcess::start(words, variables, None).map_err(failed)?;
                    Self::through(started, Protocol::Worker, address, (options, output, told)).await.map_err(
                        |(error, words)| words.map_or(error, |words| failed(io::Error::other(words))),
                    )
                }
            }
        };
        let silent = || Error::of(Fault::Silent(HANDSHAKE), &address.name, "the handshake");
        timeout(HANDSHAKE, opening).await.map_err(|_| silent())?
    }

    /// The connection through a process. A failure comes with what the process has said.
    async fn through(
        (stream, mut process): (UnixStream, DaemonProcess),
        protocol: Protocol,
        address: &DaemonAddress,
        (options, output, told): (Option<&SetOptions>, Option<&Sender<Bytes>>, Told<'_>),
    ) -> Result<Self, (Error, Option<String>)> {
        let agreed = match protocol {
            Protocol::Worker => Self::agree(address, stream, options, told).await,
            Protocol::Serve => Self::agree_to_serve(address, stream).await,
        };
        match agreed {
            Ok(connection) => {
                // A daemon sends what builders say by the connection; what else it says is no log.
                process.connected(output.filter(|_| protocol == Protocol::Serve).cloned());
                Ok(Self { process: Some(process), ..connection })
            }
            Err(error) => Err((error, process.last_words().await)),
        }
    }

    async fn agree(
        address: &DaemonAddress,
        stream: UnixStream,
        options: Option<&SetOptions>,
        told: Told<'_>,
    ) -> Result<Self> {
        let failed = |fault| Error::of(fault, &address.name, "the handshake");
        let mut handshake = ClientHandshake::new();
        let (greeting, input, output) =
            shake_hands(address, stream, |bytes, out| handshake.step(bytes, out)).await?;
        let mut connection = Self::agreed(address, greeting, input, output);
        connection.log_phase(&mut Relay::new(told.events, told.parent)).await.map_err(failed)?;
        if let Some(options) = options {
            connection.call(options, told).await.map_err(failed)?;
        }
        Ok(connection)
    }

    fn agreed(address: &DaemonAddress, greeting: ServerGreeting, input: Input, output: Output) -> Self {
        let dialect = Dialect::new(greeting.version, address.store_dir.clone());
        Self { input, output, dialect, greeting, usable: true, process: None }
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> Version {
        self.dialect.version
    }

    /// What the daemon has said of itself.
    pub(crate) fn greeting(&self) -> &ServerGreeting {
        &self.greeting
    }

    /// Whether there can be another request.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.usable && self.input.is_quiet()
    }

    /// Says that what came after a reply has been taken, or that it will be.
    pub(crate) fn set_usable(&mut self, usable: bool) {
        self.usable = usable;
    }

    /// Closes it in good order.
    pub(crate) async fn close(self) {
        let Self { input, output, process, .. } = self;
        drop((input, output));
        if let Some(mut process) = process {
            process.end().await;
        }
    }

    /// What went wrong, with what has been said about it there.
    pub(crate) async fn explain(&mut self, fault: Fault) -> Fault {
        let (Fault::Io(error), Some(process)) = (&fault, &mut self.process) else { return fault };
        let Some(words) = process.last_words().await else { return fault };
        match self.dialect.version.protocol {
            Protocol::Worker => Fault::Io(io::Error::new(error.kind(), format!("{error}: {words}"))),
            // That is its way of telling what went wrong.
            Protocol::Serve => Fault::Refused(Refusal::new(&LogError::new(words, 1))),
        }
    }

    /// Sends a request and waits for its reply.
    pub(crate) async fn call<R: WorkerRequest>(
        &mut self,
        request: &R,
        told: Told<'_>,
    ) -> Result<R::Response, Fault> {
        self.begin(request).await?;
        let mut relay = Relay::new(told.events, told.parent);
        let ended = self.log_phase(&mut relay).await;
        self.reply::<R>(ended).await
    }

    /// Sends requests whose replies say nothing, several before the first of them is answered: the way there may be long.
    pub(crate) async fn call_each<R: WorkerRequest>(
        &mut self,
        requests: &[R],
        told: Told<'_>,
    ) -> Result<(), Fault> {
        for batch in requests.chunks(AT_ONCE) {
            let mut out = Vec::new();
            for request in batch {
                self.append(request, &mut out)?;
            }
            self.send(&out).await?;
            for _ in batch {
                let answering = async {
                    let mut relay = Relay::new(told.events, told.parent);
                    let ended = self.log_phase(&mut relay).await;
                    self.reply::<R>(ended).await
                };
                let answered = timeout(QUESTION, answering).await;
                if let Err(fault) = answered.unwrap_or(Err(Fault::Silent(QUESTION))) {
                    // Replies to the others may be on their way.
                    self.usable = false;
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Sends a request with what streams after it, and waits for its reply.
    pub(crate) async fn call_with<R: WorkerRequest>(
        &mut self,
        request: &R,
        source: &mut (dyn AsyncRead + Send + Unpin),
        told: Told<'_>,
    ) -> Result<R::Response, Fault> {
        let framing = R::OPERATION.payload(self.version());
        self.begin(request).await?;
        let mut relay = Relay::new(told.events, told.parent);
        let ended = match framing {
            RequestPayload::None => self.log_phase(&mut relay).await,
            RequestPayload::Pulled => self.log_phase_pulled(&mut relay, source).await,
            RequestPayload::Framed | RequestPayload::Nar => {
                let Self { input, output, dialect, .. } = self;
                let sending = async {
                    match framing {
                        RequestPayload::Framed => send_frames(output, source).await,
                        _ => send_raw(output, source).await,
                    }
                };
                while_sending(sending, log_phase(input, dialect, &mut relay)).await
            }
        };
        self.reply::<R>(ended).await
    }

    async fn begin<R: WorkerRequest>(&mut self, request: &R) -> Result<(), Fault> {
        let mut out = Vec::new();
        self.append(request, &mut out)?;
        self.send(&out).await
    }

    fn append<R: WorkerRequest>(&self, request: &R, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.version().protocol != Protocol::Worker {
            let reason = format!("the protocol of 'ssh://' has no {}; that of 'ssh-ng://' has", R::OPERATION);
            return Err(Fault::TooOld(reason));
        }
        Ok(request.append(out, &self.dialect)?)
    }

    /// Sends a request, after which nothing else can be sent before it was answered.
    async fn send(&mut self, request: &[u8]) -> Result<(), Fault> {
        self.usable = false;
        self.output.send(request).await
    }

    /// The reply, if the log phase has not ended with an error. Then it is known where the next message would begin.
    async fn reply<R: WorkerRequest>(&mut self, ended: Result<(), Fault>) -> Result<R::Response, Fault> {
        if let Err(fault) = ended {
            self.usable = matches!(fault, Fault::Refused(_));
            return Err(fault);
        }
        let reply = self.input.message::<R::Response>(reply(R::OPERATION), &self.dialect).await?;
        self.usable = true;
        Ok(reply)
    }

    async fn log_phase(&mut self, relay: &mut Relay<'_>) -> Result<(), Fault> {
        log_phase(&mut self.input, &self.dialect, relay).await
    }

    /// A log phase in which the daemon asks for more of `source`.
    async fn log_phase_pulled(
        &mut self,
        relay: &mut Relay<'_>,
        source: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<(), Fault> {
        while let Some(wanted) = next_pull(&mut self.input, &self.dialect, relay).await? {
            answer_pull(&mut self.output, source, wanted).await?;
        }
        Ok(())
    }
}

/// Agrees with the other end of a new connection, as `step` of a handshake does.
async fn shake_hands<T>(
    address: &DaemonAddress,
    stream: UnixStream,
    mut step: impl FnMut(&mut &[u8], &mut Vec<u8>) -> Result<Option<T>, HandshakeError>,
) -> Result<(T, Input, Output)> {
    let (input, output) = stream.into_split();
    let (mut input, mut output) = (Input::new(input), Output::new(output));
    let failed = |fault| Error::of(fault, &address.name, "the handshake");
    // Who closes the connection may have said before what it is.
    let mut unsent = None;
    loop {
        let mut out = Vec::new();
        let stepped = input.offer(|bytes| step(bytes, &mut out));
        unsent = unsent.or(output.send(&out).await.err());
        match stepped {
            Ok(Some(agreed)) => match unsent {
                None => return Ok((agreed, input, output)),
                Some(fault) => return Err(failed(fault)),
            },
            Ok(None) => {
                if let Err(fault) = input.fill(None).await {
                    return Err(failed(unsent.unwrap_or(fault)));
                }
            }
            Err(source) => return Err(Error::Handshake { daemon: address.name.clone(), source }),
        }
    }
}

/// A log phase in which the daemon wants nothing of this side.
async fn log_phase(input: &mut Input, dialect: &Dialect, relay: &mut Relay<'_>) -> Result<(), Fault> {
    match next_pull(input, dialect, relay).await? {
        None => Ok(()),
        Some(_) => Err(Fault::Nonsense("it wants to read what was not announced".to_owned())),
    }
}

/// Goes on in the log phase to its end (`None`), or until the daemon wants so many bytes.
async fn next_pull(
    input: &mut Input,
    dialect: &Dialect,
    relay: &mut Relay<'_>,
) -> Result<Option<u64>, Fault> {
    loop {
        match input.message::<LogMessage>(LOG_MESSAGE, dialect).await? {
            LogMessage::Last => return Ok(None),
            LogMessage::Read(wanted) => return Ok(Some(wanted)),
            LogMessage::Error(error) => return Err(Fault::Refused(Refusal::new(&error))),
            LogMessage::Write(_) => {
                return Err(Fault::Nonsense("it sends what nobody has asked for".to_owned()));
            }
            message => relay.tell(message).map_err(Fault::Nonsense)?,
        }
    }
}

/// Sends a payload while listening: daemons answer when they have taken all of it, or close the connection.
async fn while_sending(
    sending: impl Future<Output = Result<(), Fault>>,
    answering: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    tokio::pin!(sending, answering);
    let sent = tokio::select! {
        sent = &mut sending => sent,
        // What is on its way would be taken for requests.
        answered = &mut answering => {
            return Err(match answered {
                Err(Fault::Refused(refusal)) => Fault::RefusedEarly(refusal),
                Err(fault) => fault,
                Ok(()) => Fault::Nonsense("it answers before it has got all".to_owned()),
            });
        }
    };
    match sent {
        Ok(()) => answering.await,
        Err(Fault::Io(error)) => match timeout(LAST_WORDS, answering).await {
            Ok(Err(Fault::Refused(refusal))) => Err(Fault::RefusedEarly(refusal)),
            _ => Err(Fault::Io(error)),
        },
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use kiln_events::EventSender;
    use kiln_store_path::StoreDir;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_has_answered_before_it_went_away_is_named() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drop(theirs);
        let address = DaemonAddress::new("/s".as_ref(), &Default::default(), StoreDir::default()).unwrap();
        let events = EventSender::null();
        let told = Told { events: &events, parent: ActivityId::NONE };
        let agreed = Connection::agree(&address, ours, None, told).await.map(drop);
        assert!(matches!(agreed, Err(Error::Handshake { .. })), "{agreed:?}");
    }
}
