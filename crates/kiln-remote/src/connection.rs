//! One connection: its handshake, and one request after the other, each with its log phase and its reply.

use std::time::Duration;

use kiln_events::{ActivityId, EventSender};
use kiln_protocol::worker::handshake::{ClientHandshake, ServerGreeting};
use kiln_protocol::worker::request::SetOptions;
use kiln_protocol::worker::{LogMessage, RequestPayload, WorkerRequest};
use kiln_protocol::{Dialect, Version};
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::address::{DaemonAddress, DaemonPlace};
use crate::channel::{Input, Output, connect};
use crate::error::{Error, Fault, Refusal, Result};
use crate::limits::{HANDSHAKE, LOG_MESSAGE, reply};
use crate::payload::{answer_pull, send_frames, send_raw};
use crate::relay::Relay;
use crate::ssh::{self, SshProcess};

/// How long an answer is waited for that a daemon may have sent before it closed the connection.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    /// What it goes through, if the daemon is on another machine.
    _process: Option<SshProcess>,
}

impl Connection {
    /// Connects, agrees on a version, and says what this client wishes.
    pub(crate) async fn open(
        address: &DaemonAddress,
        options: Option<&SetOptions>,
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
                    let (stream, process) =
                        ssh::start(machine, options).map_err(|error| unreachable(error.to_string()))?;
                    // Nix wishes nothing of daemons there, whose settings are those of their machine.
                    match Self::agree(address, stream, None, told).await {
                        Ok(connection) => Ok(Self { _process: Some(process), ..connection }),
                        Err(error) => Err(process.last_words().await.map_or(error, unreachable)),
                    }
                }
            }
        };
        let silent = || Error::of(Fault::Silent(HANDSHAKE), &address.name, "the handshake");
        timeout(HANDSHAKE, opening).await.map_err(|_| silent())?
    }

    async fn agree(
        address: &DaemonAddress,
        stream: UnixStream,
        options: Option<&SetOptions>,
        told: Told<'_>,
    ) -> Result<Self> {
        let (input, output) = stream.into_split();
        let (mut input, mut output) = (Input::new(input), Output::new(output));
        let failed = |fault| Error::of(fault, &address.name, "the handshake");
        let mut handshake = ClientHandshake::new();
        // Who closes the connection may have said before what it is.
        let mut unsent = None;
        let greeting = loop {
            let mut out = Vec::new();
            let step = input.offer(|bytes| handshake.step(bytes, &mut out));
            unsent = unsent.or(output.send(&out).await.err());
            match step {
                Ok(Some(greeting)) => match unsent {
                    None => break greeting,
                    Some(fault) => return Err(failed(fault)),
                },
                Ok(None) => {
                    if let Err(fault) = input.fill(None).await {
                        return Err(failed(unsent.unwrap_or(fault)));
                    }
                }
                Err(source) => return Err(Error::Handshake { daemon: address.name.clone(), source }),
            }
        };
        let dialect = Dialect::new(greeting.version, address.store_dir.clone());
        let mut connection = Self { input, output, dialect, greeting, usable: true, _process: None };
        connection.log_phase(&mut Relay::new(told.events, told.parent)).await.map_err(failed)?;
        if let Some(options) = options {
            connection.call(options, told).await.map_err(failed)?;
        }
        Ok(connection)
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
        request.append(&mut out, &self.dialect)?;
        self.usable = false;
        self.output.send(&out).await
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
