//! What builders print: lines do not depend on how the bytes are cut, and nothing of them reaches a terminal's controls.

#![no_main]

use std::sync::Arc;

use kiln_events::{
    ActivityId, BuilderActivities, CollectingSink, Colours, EventSender, LogLines, LogTail, MAX_LINE_LENGTH,
    RecordSource, internal_json, safe_line, safe_text,
};
use libfuzzer_sys::fuzz_target;

fn lines(data: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut splitter, mut lines) = (LogLines::new(), Vec::new());
    for piece in data.chunks(size) {
        splitter.push(piece, |line| lines.push(line.to_vec()));
    }
    splitter.finish(|line| lines.push(line.to_vec()));
    lines
}

fuzz_target!(|data: &[u8]| {
    let whole = lines(data, data.len().max(1));
    assert_eq!(whole, lines(data, 3));
    for source in [RecordSource::Builder, RecordSource::BuildHook] {
        let sink = Arc::new(CollectingSink::new());
        let sender = EventSender::with_first_id(sink.clone(), 1);
        let mut activities = BuilderActivities::new(sender, ActivityId(9), source);
        for line in &whole {
            activities.handle(line);
        }
        drop(activities);
        for event in sink.events() {
            let json = internal_json::encode_object(&event, internal_json::Options::default());
            assert!(!json.contains('\n'), "one record, one line");
        }
    }
    let mut tail = LogTail::new(10, 1 << 16);
    for line in &whole {
        assert!(line.len() <= MAX_LINE_LENGTH + 32);
        let stripped = safe_line(line, Colours::Strip);
        assert!(
            !stripped.chars().any(|character| character.is_control() && character != '\t'),
            "{stripped:?}"
        );
        let _ = safe_line(line, Colours::Keep);
        tail.push(line);
    }
    assert!(tail.lines().len() <= 10);
    let _ = safe_text(data, Colours::Keep);
});
