//! How both ends of the worker protocol agree on a version.
//!
//! ```text
//! client  magic 1                                  version (which old clients only send when they have the server's)
//! server            magic 2, version
//! client                                           1.38 features
//! server                                                            1.38 features
//! client                                           1.14 0 or (1, CPU)   1.11 0 (once: reserve space)
//! server                                                            1.33 its Nix version   1.35 trust   log phase
//! ```
//!
//! Both sides are machines that take what has come and append what is to be sent. Whoever drives one sends that before
//! waiting for more, and ends the connection after an error.

use std::collections::BTreeSet;

use kiln_store_path::StoreDir;
use thiserror::Error;

use crate::describe::wire_as;
use crate::error::{ReadError, WriteError};
use crate::limits::{MAX_FEATURES, MAX_WORD};
use crate::message_reader::MessageReader;
use crate::shape::Shape;
use crate::value::Trust;
use crate::version::{Dialect, Protocol, Version};
use crate::wire::{self, Wire};

/// What the client begins with: "cxin" on the wire.
pub const CLIENT_MAGIC: u64 = 0x6e69_7863;
/// What the server answers with: "oixd" on the wire.
pub const SERVER_MAGIC: u64 = 0x6478_696f;

/// The most bytes of one part of a handshake.
const LIMIT: usize = 1 << 20;

/// Why there is no agreement.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The other end doesn't begin as it should.
    #[error("protocol mismatch: expected the number {expected:#x}, got '{}'", .got.escape_ascii())]
    Magic {
        /// What it should begin with.
        expected: u64,
        /// What it began with: eight bytes, perhaps of a text that was printed by mistake.
        got: Vec<u8>,
    },
    /// The other end's version isn't spoken here.
    #[error("the {end}'s protocol version {major}.{minor} is not supported, expected {}.{} or newer",
        .oldest.protocol.major(), .oldest.minor)]
    Version {
        /// Who has it: "client" or "daemon".
        end: &'static str,
        /// Its major version.
        major: u64,
        /// Its minor version.
        minor: u64,
        /// The oldest that is spoken.
        oldest: Version,
    },
    /// Something else can't be read.
    #[error("in the handshake: {0}")]
    Read(#[from] ReadError),
    /// Something can't be written.
    #[error("in the handshake: {0}")]
    Write(#[from] WriteError),
}

/// Names of extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(pub BTreeSet<String>);

impl Wire for Features {
    const SHAPE: Shape = Shape::List { limit: MAX_FEATURES, element: &Shape::Bytes { limit: MAX_WORD } };

    fn read(decoder: &mut wire::Decoder<'_>) -> Result<Self, ReadError> {
        Wire::read(decoder).map(Self)
    }

    fn write(&self, encoder: &mut wire::Encoder<'_>) {
        self.0.write(encoder);
    }
}

/// A number after which, unless it is 0, comes the number of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Affinity;

wire_as!(
    Affinity,
    Shape::Optional(&Shape::Number),
    |decoder| {
        if decoder.flag()? {
            decoder.number()?;
        }
        Ok(Affinity)
    },
    |_value, encoder| encoder.number(0)
);

/// What both ends have agreed on, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientGreeting {
    /// The version to speak.
    pub version: Version,
    /// The features that both have.
    pub features: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerState {
    Magic,
    Version,
    Features,
    Affinity,
    ReserveSpace,
    Done,
}

/// The server's side of the handshake. When it is done, the server begins a log phase, which it ends with
/// [`LogMessage::Last`](crate::worker::LogMessage::Last), or with an error to refuse the client.
#[derive(Clone, Debug)]
pub struct ServerHandshake {
    state: ServerState,
    reader: MessageReader,
    dialect: Dialect,
    offered: BTreeSet<String>,
    features: BTreeSet<String>,
    nix_version: String,
    trust: Trust,
}

impl ServerHandshake {
    /// A server of this Nix version (such as `2.34.8`) that trusts this client so.
    #[must_use]
    pub fn new(nix_version: impl Into<String>, trust: Trust) -> Self {
        Self {
            state: ServerState::Magic,
            reader: MessageReader::new(LIMIT),
            dialect: Dialect::new(Protocol::Worker.newest(), StoreDir::default()),
            offered: BTreeSet::new(),
            features: BTreeSet::new(),
            nix_version: nix_version.into(),
            trust,
        }
    }

    /// The newest minor version and the features to offer, instead of all that there is and none.
    #[must_use]
    pub fn offering(mut self, newest_minor: u8, features: BTreeSet<String>) -> Self {
        self.dialect.version.minor = newest_minor.min(Protocol::Worker.newest_minor());
        self.offered = features;
        self
    }

    /// Takes what has come, and appends to `out` what is to be sent. `None`: all of the input is taken, send `out` and bring
    /// more. At the end `out` may hold something too.
    ///
    /// # Errors
    /// See [`HandshakeError`]. Real daemons then close the connection without a word.
    pub fn step(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientGreeting>, HandshakeError> {
        loop {
            let minor = self.dialect.version.minor;
            self.state = match self.state {
                ServerState::Magic => {
                    let Some(magic) = self.read::<u64>(input)? else { return Ok(None) };
                    check_magic(CLIENT_MAGIC, magic)?;
                    wire::append(out, &SERVER_MAGIC, &self.dialect)?;
                    wire::append(out, &self.dialect.version.number(), &self.dialect)?;
                    ServerState::Version
                }
                ServerState::Version => {
                    let Some(number) = self.read::<u64>(input)? else { return Ok(None) };
                    self.dialect.version.minor = common_minor("client", number, self.dialect.version)?;
                    ServerState::Features
                }
                ServerState::Features if minor >= 38 => {
                    let Some(Features(wanted)) = self.read(input)? else { return Ok(None) };
                    wire::append(out, &Features(self.offered.clone()), &self.dialect)?;
                    self.features = self.offered.intersection(&wanted).cloned().collect();
                    ServerState::Affinity
                }
                ServerState::Features => ServerState::Affinity,
                ServerState::Affinity => {
                    if minor >= 14 && self.read::<Affinity>(input)?.is_none() {
                        return Ok(None);
                    }
                    ServerState::ReserveSpace
                }
                ServerState::ReserveSpace => {
                    if minor >= 11 && self.read::<u64>(input)?.is_none() {
                        return Ok(None);
                    }
                    self.greet(out)?;
                    ServerState::Done
                }
                ServerState::Done => {
                    let (version, features) = (self.dialect.version, self.features.clone());
                    return Ok(Some(ClientGreeting { version, features }));
                }
            };
        }
    }

    fn read<T: Wire>(&mut self, input: &mut &[u8]) -> Result<Option<T>, ReadError> {
        self.reader.read(&self.dialect, input)
    }

    fn greet(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.dialect.version.minor >= 33 {
            wire::append(out, &self.nix_version, &self.dialect)?;
        }
        if self.dialect.version.minor >= 35 {
            wire::append(out, &self.trust, &self.dialect)?;
        }
        Ok(())
    }
}

/// What both ends have agreed on, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGreeting {
    /// The version to speak.
    pub version: Version,
    /// The features that both have.
    pub features: BTreeSet<String>,
    /// The server's Nix version. From 1.33 on.
    pub nix_version: Option<String>,
    /// Whether the server trusts this client. Unknown before 1.35.
    pub trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Start,
    Magic,
    Version,
    Features,
    NixVersion,
    Trust,
    Done,
}

/// The client's side of the handshake. When it is done, the server's log phase follows.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    state: ClientState,
    reader: MessageReader,
    dialect: Dialect,
    offered: BTreeSet<String>,
    features: BTreeSet<String>,
    nix_version: Option<String>,
    trust: Trust,
}

impl Default for ClientHandshake {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientHandshake {
    /// A client of the newest version, without features.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: ClientState::Start,
            reader: MessageReader::new(LIMIT),
            dialect: Dialect::new(Protocol::Worker.newest(), StoreDir::default()),
            offered: BTreeSet::new(),
            features: BTreeSet::new(),
            nix_version: None,
            trust: Trust::Unknown,
        }
    }

    /// The newest minor version and the features to offer, instead of all that there is and none.
    #[must_use]
    pub fn offering(mut self, newest_minor: u8, features: BTreeSet<String>) -> Self {
        self.dialect.version.minor = newest_minor.min(Protocol::Worker.newest_minor());
        self.offered = features;
        self
    }

    /// Takes what has come, and appends to `out` what is to be sent; to be called once without input to begin. `None`: all of
    /// the input is taken, send `out` and bring more.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn step(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ServerGreeting>, HandshakeError> {
        loop {
            let minor = self.dialect.version.minor;
            self.state = match self.state {
                ClientState::Start => {
                    wire::append(out, &CLIENT_MAGIC, &self.dialect)?;
                    wire::append(out, &self.dialect.version.number(), &self.dialect)?;
                    ClientState::Magic
                }
                ClientState::Magic => {
                    let Some(magic) = self.read::<u64>(input)? else { return Ok(None) };
                    check_magic(SERVER_MAGIC, magic)?;
                    ClientState::Version
                }
                ClientState::Version => {
                    let Some(number) = self.read::<u64>(input)? else { return Ok(None) };
                    self.dialect.version.minor = common_minor("daemon", number, self.dialect.version)?;
                    if self.dialect.version.minor >= 38 {
                        wire::append(out, &Features(self.offered.clone()), &self.dialect)?;
                        ClientState::Features
                    } else {
                        self.put_obsolete(out)?;
                        ClientState::NixVersion
                    }
                }
                ClientState::Features => {
                    let Some(Features(offered)) = self.read(input)? else { return Ok(None) };
                    self.features = self.offered.intersection(&offered).cloned().collect();
                    self.put_obsolete(out)?;
                    ClientState::NixVersion
                }
                ClientState::NixVersion if minor >= 33 => {
                    let Some(nix_version) = self.read(input)? else { return Ok(None) };
                    self.nix_version = Some(nix_version);
                    ClientState::Trust
                }
                ClientState::Trust if minor >= 35 => {
                    let Some(trust) = self.read(input)? else { return Ok(None) };
                    self.trust = trust;
                    ClientState::Done
                }
                ClientState::NixVersion | ClientState::Trust => ClientState::Done,
                ClientState::Done => {
                    return Ok(Some(ServerGreeting {
                        version: self.dialect.version,
                        features: self.features.clone(),
                        nix_version: self.nix_version.clone(),
                        trust: self.trust,
                    }));
                }
            };
        }
    }

    fn read<T: Wire>(&mut self, input: &mut &[u8]) -> Result<Option<T>, ReadError> {
        self.reader.read(&self.dialect, input)
    }

    fn put_obsolete(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.dialect.version.minor >= 14 {
            wire::append(out, &Affinity, &self.dialect)?;
        }
        if self.dialect.version.minor >= 11 {
            wire::append(out, &0u64, &self.dialect)?;
        }
        Ok(())
    }
}

/// Whether the other end has begun as it should.
pub(crate) fn check_magic(expected: u64, got: u64) -> Result<(), HandshakeError> {
    if got == expected {
        Ok(())
    } else {
        Err(HandshakeError::Magic { expected, got: got.to_le_bytes().to_vec() })
    }
}

/// The lower of our minor version and that in the other end's number.
pub(crate) fn common_minor(end: &'static str, number: u64, ours: Version) -> Result<u8, HandshakeError> {
    let (major, minor) = (number >> 8, number & 0xff);
    let oldest = Version { protocol: ours.protocol, minor: ours.protocol.oldest_minor() };
    if major != ours.protocol.major() || minor < u64::from(oldest.minor) {
        return Err(HandshakeError::Version { end, major, minor, oldest });
    }
    Ok(u8::try_from(minor).unwrap_or(u8::MAX).min(ours.minor))
}
