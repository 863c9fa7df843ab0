//! What a builtin says while it works.

use kiln_events::internal_json::{self, Options};
use kiln_events::{Activity, ActivityId, ActivityResult, Colours, Event, Verbosity, safe_line};
use std::io::Write;

/// The builder's log. Nobody's reading it is no reason to fail, so errors of writing are dropped.
pub(crate) struct Log<'a> {
    writer: &'a mut dyn Write,
    last_activity: u64,
}

impl<'a> Log<'a> {
    pub(crate) fn new(writer: &'a mut dyn Write) -> Self {
        Self { writer, last_activity: 0 }
    }

    /// A warning, as Nix words them.
    pub(crate) fn warn(&mut self, text: &str) {
        let line = format!("warning: {}\n", safe_line(text.as_bytes(), Colours::Strip));
        self.write(&line);
    }

    /// A transfer begins; returns its name in the log.
    pub(crate) fn transfer_begins(&mut self, url: &str) -> ActivityId {
        self.last_activity += 1;
        let id = ActivityId(self.last_activity);
        let activity = Activity::FileTransfer { url: url.into() };
        let text = format!("downloading '{url}'").into();
        self.event(&Event::Start { id, parent: ActivityId(0), level: Verbosity::Talkative, activity, text });
        id
    }

    /// How many bytes of a transfer have come, of how many; 0 if that isn't known.
    pub(crate) fn transferred(&mut self, id: ActivityId, done: u64, expected: u64) {
        let result = ActivityResult::Progress { done, expected, running: 0, failed: 0 };
        self.event(&Event::Result { id, result });
    }

    /// The transfer has ended, well or not.
    pub(crate) fn transfer_ends(&mut self, id: ActivityId) {
        self.event(&Event::Stop { id });
    }

    fn event(&mut self, event: &Event) {
        let line = internal_json::encode(event, Options::default());
        self.write(&line);
    }

    fn write(&mut self, line: &str) {
        let _ = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_told_in_records_that_builders_may_write() {
        let mut written = Vec::new();
        let mut log = Log::new(&mut written);
        let id = log.transfer_begins("http://host/");
        log.transferred(id, 3, 10);
        log.transfer_ends(id);
        log.warn("two\nlines");
        let expected = "@nix {\"action\":\"start\",\"fields\":[\"http://host/\"],\"id\":1,\"level\":4,\"parent\":0,\
                        \"text\":\"downloading 'http://host/'\",\"type\":101}\n\
                        @nix {\"action\":\"result\",\"fields\":[3,10,0,0],\"id\":1,\"type\":105}\n\
                        @nix {\"action\":\"stop\",\"id\":1}\n\
                        warning: twolines\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
