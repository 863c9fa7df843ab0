//! An archive that comes from a daemon. It has no length of its own, and ends where its grammar says.

use bytes::Bytes;
use kiln_protocol::PayloadError;
use kiln_protocol::payload::NarReader;

use crate::error::{Fault, Result};
use crate::limits::SILENCE;
use crate::pool::Lease;

/// The archive of a path on its way. If it is dropped before its end, its connection is closed.
pub struct NarStream {
    lease: Lease,
    /// What it was asked for by.
    operation: &'static str,
    nar: NarReader,
    /// The most bytes that it may have.
    limit: u64,
}

impl NarStream {
    /// What comes after the reply to an operation. `limit` is how long it may be.
    pub(crate) fn new(lease: Lease, operation: &'static str, limit: u64) -> Self {
        Self { lease, operation, nar: NarReader::new(), limit }
    }

    /// The next bytes, never none of them; `None` at the end of a whole archive.
    ///
    /// # Errors
    /// It is damaged, longer than it may be, or does not come.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Self { lease, nar, limit, .. } = self;
            let connection = lease.connection()?;
            let step = connection.input.offer(|bytes| -> Result<_, PayloadError> {
                let taken = nar.next(bytes)?;
                Ok(taken.map(Bytes::copy_from_slice))
            });
            let fault = match step {
                Err(error) => Fault::from(error),
                Ok(_) if nar.offset() > *limit => Fault::Nonsense(format!(
                    "the archive has more than the {limit} bytes that it should have"
                )),
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) if nar.is_complete() => {
                    connection.set_usable(true);
                    return Ok(None);
                }
                Ok(None) => match connection.input.fill(Some(SILENCE)).await {
                    Ok(()) => continue,
                    Err(fault) => fault,
                },
            };
            return Err(lease.error(fault, self.operation).await);
        }
    }
}
