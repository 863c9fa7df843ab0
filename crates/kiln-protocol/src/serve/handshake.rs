//! How both ends of the serve protocol agree on a version: each sends its magic and its version, the client first. The
//! machines are driven as those of the [worker protocol](crate::worker::handshake).

use kiln_store_path::StoreDir;

use crate::error::ReadError;
use crate::message_reader::MessageReader;
use crate::version::{Dialect, Protocol, Version};
use crate::wire;
use crate::worker::handshake::{HandshakeError, check_magic, common_minor};

/// What the client begins with.
pub const CLIENT_MAGIC: u64 = 0x390c_9deb;
/// What the server answers with.
pub const SERVER_MAGIC: u64 = 0x5452_eecb;

/// The most bytes of one part of a handshake: each is a number.
const LIMIT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Magic,
    Version,
    Done,
}

/// One side of the handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    is_client: bool,
    state: State,
    reader: MessageReader,
    dialect: Dialect,
}

impl Handshake {
    /// The client's side. It begins with a step without input.
    #[must_use]
    pub fn client() -> Self {
        Self::new(true, State::Start)
    }

    /// The server's side.
    #[must_use]
    pub fn server() -> Self {
        Self::new(false, State::Magic)
    }

    fn new(is_client: bool, state: State) -> Self {
        let dialect = Dialect::new(Protocol::Serve.newest(), StoreDir::default());
        Self { is_client, state, reader: MessageReader::new(LIMIT), dialect }
    }

    /// The newest minor version to offer, instead of the newest that there is.
    #[must_use]
    pub fn offering(mut self, newest_minor: u8) -> Self {
        self.dialect.version.minor = newest_minor.min(Protocol::Serve.newest_minor());
        self
    }

    /// Takes what has come, and appends to `out` what is to be sent. `None`: all of the input is taken, send `out` and bring
    /// more.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Option<Version>, HandshakeError> {
        loop {
            self.state = match self.state {
                State::Start => {
                    self.greet(CLIENT_MAGIC, out)?;
                    State::Magic
                }
                State::Magic => {
                    let Some(magic) = self.number(input)? else { return Ok(None) };
                    if self.is_client {
                        check_magic(SERVER_MAGIC, magic)?;
                    } else {
                        check_magic(CLIENT_MAGIC, magic)?;
                        self.greet(SERVER_MAGIC, out)?;
                    }
                    State::Version
                }
                State::Version => {
                    let Some(number) = self.number(input)? else { return Ok(None) };
                    let other_end = if self.is_client { "server" } else { "client" };
                    self.dialect.version.minor = common_minor(other_end, number, self.dialect.version)?;
                    State::Done
                }
                State::Done => return Ok(Some(self.dialect.version)),
            };
        }
    }

    fn number(&mut self, input: &mut &[u8]) -> Result<Option<u64>, ReadError> {
        self.reader.read(&self.dialect, input)
    }

    fn greet(&self, magic: u64, out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        wire::append(out, &magic, &self.dialect)?;
        wire::append(out, &self.dialect.version.number(), &self.dialect)?;
        Ok(())
    }
}
