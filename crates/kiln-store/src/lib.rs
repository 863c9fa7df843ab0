//! Stores as a service.

mod blocking;
mod error;

pub use blocking::{blocking, waiting};
pub use error::{Error, Result};
