//! The listing of an archive: the `.ls` file of a binary cache (JSON, version 1).
//!
//! The keys of every object are sorted, and so are the entries of a directory, since they come in the archive's order. So
//! the text can be written while the archive passes, without a tree in memory.

use crate::decode::Event;
use serde_json::Value;
use thiserror::Error;

/// Why an archive has no listing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListingError {
    /// JSON can't express the name of a file or the target of a link.
    #[error("listing cannot express '{}': not UTF-8", .0.escape_ascii())]
    NotUtf8(Vec<u8>),
    /// The archive's events ended too early.
    #[error("listing is incomplete: the archive has not ended")]
    Incomplete,
}

/// Writes the listing of an archive from its events.
#[derive(Debug, Clone)]
pub struct ListingWriter {
    json: String,
    /// Directories that are open.
    depth: usize,
    /// The innermost directory has had no entry.
    is_first: bool,
    complete: bool,
}

impl Default for ListingWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ListingWriter {
    /// A writer at the start of an archive.
    #[must_use]
    pub fn new() -> Self {
        Self { json: String::from(r#"{"root":"#), depth: 0, is_first: false, complete: false }
    }

    /// Takes the next event of the archive.
    ///
    /// # Errors
    /// If the event has a name or target that isn't UTF-8.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), ListingError> {
        match event {
            Event::Directory => {
                self.json.push_str(r#"{"entries":{"#);
                self.depth += 1;
                self.is_first = true;
            }
            Event::Entry(name) => {
                if !std::mem::take(&mut self.is_first) {
                    self.json.push(',');
                }
                self.json.push_str(&string(name)?);
                self.json.push(':');
            }
            Event::Regular { executable, size, offset } => {
                let executable = if executable { r#""executable":true,"# } else { "" };
                self.json.push_str(&format!(
                    r#"{{{executable}"narOffset":{offset},"size":{size},"type":"regular"}}"#
                ));
                self.complete = self.depth == 0;
            }
            Event::Contents(_) | Event::EndRegular => {}
            Event::Symlink(target) => {
                let target = string(target)?;
                self.json.push_str(&format!(r#"{{"target":{target},"type":"symlink"}}"#));
                self.complete = self.depth == 0;
            }
            Event::EndDirectory => {
                self.json.push_str(r#"},"type":"directory"}"#);
                self.depth = self.depth.saturating_sub(1);
                self.is_first = false;
                self.complete = self.depth == 0;
            }
        }
        Ok(())
    }

    /// What has been written since this was called last, for a listing that is not to be kept as a whole.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.json)
    }

    /// The listing, or what of it has not been [taken](Self::take).
    ///
    /// # Errors
    /// [`ListingError::Incomplete`] if the root node has not ended.
    pub fn finish(mut self) -> Result<String, ListingError> {
        if !self.complete {
            return Err(ListingError::Incomplete);
        }
        self.json.push_str(r#","version":1}"#);
        Ok(self.json)
    }
}

/// A JSON string.
fn string(bytes: &[u8]) -> Result<String, ListingError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::from(text).to_string()),
        Err(_) => Err(ListingError::NotUtf8(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(events: &[Event<'_>]) -> Result<String, ListingError> {
        let mut writer = ListingWriter::new();
        let mut taken = String::new();
        for &event in events {
            writer.event(event)?;
            taken += &writer.take();
        }
        writer.finish().map(|rest| taken + &rest)
    }

    #[test]
    fn example() {
        let target = b"/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2/refs";
        let events = [
            Event::Directory,
            Event::Entry(b"refs"),
            Event::Regular { executable: false, size: 151, offset: 232 },
            Event::EndRegular,
            Event::Entry(b"self"),
            Event::Symlink(target),
            Event::EndDirectory,
        ];
        let expected = r#"{"root":{"entries":{"refs":{"narOffset":232,"size":151,"type":"regular"},"self":{"target":"/nix/store/lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2/refs","type":"symlink"}},"type":"directory"},"version":1}"#;
        assert_eq!(listing(&events).unwrap(), expected);
    }

    #[test]
    fn executable_and_escapes() {
        let events = [
            Event::Directory,
            Event::Entry(b"a\"\n{"),
            Event::Regular { executable: true, size: 0, offset: 3 },
            Event::EndRegular,
            Event::Entry(b"b"),
            Event::Directory,
            Event::EndDirectory,
        ];
        assert_eq!(listing(&events), Err(ListingError::Incomplete));
        assert_eq!(
            listing(&[&events[..], &[Event::EndDirectory]].concat()).unwrap(),
            r#"{"root":{"entries":{"a\"\n{":{"executable":true,"narOffset":3,"size":0,"type":"regular"},"b":{"entries":{},"type":"directory"}},"type":"directory"},"version":1}"#
        );
    }

    #[test]
    fn other_encodings_have_no_listing() {
        assert_eq!(listing(&[Event::Symlink(b"\xff")]), Err(ListingError::NotUtf8(vec![0xff])));
        assert_eq!(listing(&[]), Err(ListingError::Incomplete));
    }
}
