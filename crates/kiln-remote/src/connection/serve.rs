//! The serve protocol: commands and their replies. What goes wrong is told on standard error, and ends the connection.

use std::io;

use kiln_protocol::serve::ServeRequest;
use kiln_protocol::serve::handshake::Handshake;
use kiln_protocol::value::Trust;
use kiln_protocol::worker::handshake::ServerGreeting;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;

use super::{Connection, shake_hands};
use crate::address::DaemonAddress;
use crate::error::{Fault, Result};
use crate::limits::command_reply;
use crate::payload::send_raw;

impl Connection {
    /// Agrees on a version. Whether this client is trusted, nobody says.
    pub(super) async fn agree_to_serve(address: &DaemonAddress, stream: UnixStream) -> Result<Self> {
        let mut handshake = Handshake::client();
        let (version, input, output) =
            shake_hands(address, stream, |bytes, out| handshake.step(bytes, out)).await?;
        let greeting = ServerGreeting {
            version,
            features: Default::default(),
            nix_version: None,
            trust: Trust::Unknown,
        };
        Ok(Self::agreed(address, greeting, input, output))
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn command<R: ServeRequest>(&mut self, request: &R) -> Result<R::Response, Fault> {
        self.begin_command(request).await?;
        self.command_reply::<R>().await
    }

    /// Sends a command with the `size` bytes that come after it, and waits for its reply.
    pub(crate) async fn command_with<R: ServeRequest>(
        &mut self,
        request: &R,
        source: &mut (dyn AsyncRead + Send + Unpin),
        size: u64,
    ) -> Result<R::Response, Fault> {
        self.begin_command(request).await?;
        let mut exactly = source.take(size);
        send_raw(&mut self.output, &mut exactly).await?;
        if exactly.limit() > 0 {
            let reason = format!("it has {} bytes less than was announced", exactly.limit());
            return Err(Fault::Source(io::Error::new(io::ErrorKind::UnexpectedEof, reason)));
        }
        self.command_reply::<R>().await
    }

    async fn begin_command<R: ServeRequest>(&mut self, request: &R) -> Result<(), Fault> {
        let mut out = Vec::new();
        request.append(&mut out, &self.dialect)?;
        self.send(&out).await
    }

    async fn command_reply<R: ServeRequest>(&mut self) -> Result<R::Response, Fault> {
        let reply = self.input.message::<R::Response>(command_reply(R::COMMAND), &self.dialect).await?;
        self.usable = true;
        Ok(reply)
    }
}
