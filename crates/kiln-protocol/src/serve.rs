//! The serve protocol: commands and their replies, without a log phase. What goes wrong is told on the server's standard
//! error, and ends the connection.

mod command;
pub mod handshake;
pub mod request;
pub mod response;

pub use command::{Command, CommandPayload, Request, Response, ServeRequest};
