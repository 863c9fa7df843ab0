//! A binary cache over HTTP for a local store: what is valid there is offered to Nix, to Kiln, and to people who look.
//!
//! A request goes one way. Its path is read strictly into a resource, a value that names one of the few things
//! there are (`resource`); the site looks that up in the store and makes an answer (`cache`, `archive`, `pages`); the answer's
//! body reaches the client at the client's pace (`body`). Listening and the connections are `kiln-web`'s. Nothing is kept on disk and nothing large in memory: an archive
//! is made of the files of its path while it is sent, and a part of it without reading what lies before.
//!
//! What a client may cost is bounded. Heads are small, what is looked up takes one query, and what streams needs a place of
//! which there are so many; who does not read loses the connection. While a path is being sent it is a temporary root.
//! An answer whose length is known is never shorter, and one whose length is not never ends as if it were whole: where
//! something goes wrong in the middle, the connection breaks.
//!
//! Everything in the store is published, to whoever can connect. Encryption and access are left to a proxy in front.

mod answer;
mod archive;
mod body;
mod cache;
mod limits;
mod metrics;
mod pages;
mod range;
mod resource;
mod server;
mod site;

pub use kiln_web::{Error, Listener};
pub use limits::Limits;
pub use server::Server;
pub use site::{ArchiveCoding, ServeConfig};
