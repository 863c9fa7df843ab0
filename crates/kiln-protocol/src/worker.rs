//! The worker protocol: operations, the log phase that stands between each request and its reply, the handshake.

mod add_to_store;
pub mod handshake;
mod log_event;
mod log_message;
mod operation;
mod options;
pub mod request;
pub mod response;
mod versioned;

pub use log_message::{LogError, LogMessage, ResultMessage, StartActivity};
pub use operation::{Operation, Request, RequestPayload, Response, WorkerRequest};
