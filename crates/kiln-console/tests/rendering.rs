//! What comes out for whole runs: in logs as real Nix prints them, and on a terminal as one sees it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_console::{Console, LogFormat, Options, Presentation, Renderer, WindowSize};
use kiln_events::{
    Activity, ActivityId, ActivityResult, CollectingSink, ErrorClass, ErrorReport, Event, EventSender,
    EventSink, Verbosity,
};

const WINDOW: WindowSize = WindowSize { width: 60, height: 12 };
const TERMINAL: Presentation = Presentation { is_terminal: true, colours: false, is_journal: false };

fn options(format: LogFormat, presentation: Presentation) -> Options {
    Options { format, verbosity: Verbosity::Info, presentation, show_trace: false }
}

fn drv(name: &str) -> String {
    format!("/nix/store/zkzjryj1z9a7mwj5ya0sr2n4sbq9yprp-{name}.drv")
}

/// The events of two builds; the second fails.
fn run() -> Vec<Event> {
    let sink = Arc::new(CollectingSink::new());
    let sender = EventSender::new(sink.clone());
    sender.message(Verbosity::Info, "these 2 derivations will be built:");
    sender.message(Verbosity::Debug, "not to be seen");
    {
        let run = sender.start(ActivityId::NONE, Verbosity::Error, Activity::Realise);
        let builds = sender.start(ActivityId::NONE, Verbosity::Error, Activity::Builds);
        builds.progress(0, 2, 1, 0);
        let build =
            |name| run.start(Verbosity::Info, Activity::Build { drv: drv(name).into(), machine: None });
        let first = build("a-50");
        first.result(ActivityResult::BuildLogLine("building a".into()));
        let hook = first.start(Verbosity::Talkative, Activity::PostBuildHook { drv: drv("a-50").into() });
        hook.result(ActivityResult::PostBuildLogLine("uploaded".into()));
        drop((hook, first));
        let second = build("b-50");
        second.result(ActivityResult::BuildLogLine("\x1b[31mdone\x1b[0m b\x1b[2J".into()));
        builds.progress(1, 2, 0, 1);
    }
    sender.error(
        ErrorReport::new(ErrorClass::BuildFailure, "builder failed\nReason: none").with_hint("read the log"),
    );
    sink.take()
}

fn plain(format: LogFormat, presentation: Presentation) -> String {
    let mut renderer = Renderer::new(options(format, presentation));
    run().iter().for_each(|event| renderer.event(event, Duration::ZERO));
    String::from_utf8_lossy(&renderer.finish(WINDOW)).into_owned()
}

#[test]
fn raw_is_as_nix_prints_it() {
    let a = drv("a-50");
    let b = drv("b-50");
    let expected = |log: &str| {
        format!(
            "these 2 derivations will be built:\nbuilding '{a}'...\n{}building '{b}'...\n{}\
             error: builder failed\n       Reason: none\n       hint: read the log\n",
            if log.is_empty() { "" } else { "building a\npost-build-hook: uploaded\n" },
            if log.is_empty() { "" } else { "done b\n" },
        )
    };
    assert_eq!(plain(LogFormat::Raw, Presentation::plain()), expected(""));
    assert_eq!(plain(LogFormat::RawWithLogs, Presentation::plain()), expected("with"));
    // Without a terminal, the bar is as raw.
    assert_eq!(plain(LogFormat::Bar, Presentation::plain()), expected(""));
}

#[test]
fn lines_of_logs_have_names() {
    let text = plain(LogFormat::BarWithLogs, Presentation::plain());
    assert!(text.contains("\na> building a\na (post)> uploaded\nbuilding"), "{text}");
    assert!(text.contains("\nb> done b\n"), "{text}");
    let coloured = Presentation { colours: true, ..Presentation::plain() };
    let text = plain(LogFormat::BarWithLogs, coloured);
    assert!(text.contains("\u{1b}[1mb>\u{1b}[0m \u{1b}[31mdone\u{1b}[0m b\n"), "{text:?}");
    assert!(text.contains("\u{1b}[31;1merror:\u{1b}[0m builder failed\n"), "{text:?}");
}

#[test]
fn the_journal_gets_levels() {
    let journal = Presentation { is_journal: true, ..Presentation::plain() };
    let text = plain(LogFormat::RawWithLogs, journal);
    assert!(text.starts_with("<5>these 2 derivations will be built:\n<5>building '"), "{text}");
    assert!(
        text.ends_with("<3>error: builder failed\n<3>       Reason: none\n<3>       hint: read the log\n"),
        "{text}"
    );
}

#[test]
fn json_tells_all_but_quiet_messages() {
    let text = plain(LogFormat::InternalJson, TERMINAL);
    assert!(text.lines().all(|line| line.starts_with("@nix {") && line.ends_with('}')), "{text}");
    assert_eq!(text.lines().count(), run().len() - 1);
    assert!(text.contains(r#""text":"","type":102}"#) && !text.contains("not to be seen"), "{text}");
}

#[test]
fn verbosity_is_respected() {
    for (verbosity, building, errors) in
        [(Verbosity::Error, false, true), (Verbosity::Notice, false, true), (Verbosity::Debug, true, true)]
    {
        let options = Options { verbosity, ..options(LogFormat::Raw, Presentation::plain()) };
        let mut renderer = Renderer::new(options);
        run().iter().for_each(|event| renderer.event(event, Duration::ZERO));
        let text = String::from_utf8(renderer.finish(WINDOW)).unwrap();
        assert_eq!(
            (text.contains("building '"), text.contains("error: builder")),
            (building, errors),
            "{verbosity:?}"
        );
        assert_eq!(text.contains("not to be seen"), verbosity == Verbosity::Debug);
    }
}

/// A terminal that knows what the renderer may use; panics on anything else.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    row: usize,
}

impl Screen {
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = std::str::from_utf8(bytes).unwrap();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => self.row += 1,
                '\r' => {}
                '\u{1b}' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (sequence, after) = rest.split_at(end + 1);
                    rest = after;
                    match sequence {
                        "[?2026h" | "[?2026l" => {}
                        "[J" => self.lines.truncate(self.row),
                        up if up.ends_with('A') => {
                            self.row -= up[1..up.len() - 1].parse::<usize>().unwrap();
                        }
                        other => panic!("unexpected sequence {other:?}"),
                    }
                }
                c => {
                    while self.lines.len() <= self.row {
                        self.lines.push(String::new());
                    }
                    self.lines[self.row].push(c);
                }
            }
        }
    }
}

#[test]
fn status_lines_stay_below_and_go_at_the_end() {
    let mut renderer = Renderer::new(options(LogFormat::Bar, TERMINAL));
    let mut screen = Screen::default();
    let events = run();
    // Up to the first build's log line.
    let (before, after) = events.split_at(6);
    before.iter().for_each(|event| renderer.event(event, Duration::from_secs(1)));
    screen.write(&renderer.output(WINDOW, Duration::from_secs(3)));
    let building = format!("building '{}'...", drv("a-50"));
    let shown = [
        "these 2 derivations will be built:",
        &building,
        "  a-50  2s",
        "[2s | 0 built, 1 running, 1 waiting]",
    ];
    assert_eq!(screen.lines, shown);
    assert_eq!(renderer.output(WINDOW, Duration::from_secs(3)), b"", "nothing changed");

    renderer.event(&Event::message(Verbosity::Warn, "something"), Duration::from_secs(4));
    renderer.event(&after[0], Duration::from_secs(4));
    screen.write(&renderer.output(WINDOW, Duration::from_secs(4)));
    assert_eq!(
        screen.lines[2..],
        ["something", "  a-50  3s  building a", "[3s | 0 built, 1 running, 1 waiting]"]
    );

    after[1..].iter().for_each(|event| renderer.event(event, Duration::from_secs(5)));
    screen.write(&renderer.finish(WINDOW));
    assert_eq!(screen.lines.len(), 7, "{:?}", screen.lines);
    assert_eq!(screen.lines[3], format!("building '{}'...", drv("b-50")));
    assert_eq!(
        screen.lines[4..],
        ["error: builder failed", "       Reason: none", "       hint: read the log"]
    );
    assert!(!renderer.has_status());
}

#[test]
fn a_narrower_window_is_cleared_too() {
    let mut renderer = Renderer::new(options(LogFormat::Bar, TERMINAL));
    run()[..6].iter().for_each(|event| renderer.event(event, Duration::ZERO));
    let first = renderer.output(WINDOW, Duration::ZERO);
    assert!(String::from_utf8(first).unwrap().contains("[0s | 0 built, 1 running, 1 waiting]\n"));
    // The summary of 36 columns now takes four rows of 10, the other line one.
    let narrow = renderer.output(WindowSize { width: 10, height: 12 }, Duration::ZERO);
    assert!(String::from_utf8(narrow).unwrap().starts_with("\u{1b}[?2026h\r\u{1b}[5A\u{1b}[J"));
}

/// What a console has written so far.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_console_writes_everything_before_it_ends() {
    for presentation in [Presentation::plain(), TERMINAL] {
        let captured = Captured::default();
        let options = options(LogFormat::BarWithLogs, presentation);
        let console = Console::new(options, Box::new(captured.clone()), Box::new(|| WINDOW)).unwrap();
        run().into_iter().for_each(|event| console.emit(event));
        console.finish();
        console.finish();
        let mut screen = Screen::default();
        screen.write(&captured.0.lock().unwrap());
        let mut expected = plain(LogFormat::BarWithLogs, Presentation::plain());
        expected.pop();
        assert_eq!(screen.lines.join("\n"), expected);
    }
}

#[test]
fn a_console_goes_on_when_nobody_reads() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let options = options(LogFormat::Raw, Presentation::plain());
    let console = Console::new(options, Box::new(Closed), Box::new(|| WINDOW)).unwrap();
    for _ in 0..3 {
        run().into_iter().for_each(|event| console.emit(event));
        std::thread::yield_now();
    }
    drop(console);
}

/// A reader that stands still must not cost memory without end, and learns what it missed.
#[test]
fn logs_are_left_out_when_the_output_does_not_keep_up() {
    let mut renderer = Renderer::new(options(LogFormat::RawWithLogs, Presentation::plain()));
    let line = "x".repeat(60_000);
    let start = Event::Start {
        id: ActivityId(1),
        parent: ActivityId::NONE,
        level: Verbosity::Info,
        activity: Activity::Build { drv: drv("a").into(), machine: None },
        text: "".into(),
    };
    renderer.event(&start, Duration::ZERO);
    let result =
        Event::Result { id: ActivityId(1), result: ActivityResult::BuildLogLine(line.as_str().into()) };
    (0..400).for_each(|_| renderer.event(&result, Duration::ZERO));
    renderer.event(&Event::message(Verbosity::Error, "but this is said"), Duration::ZERO);
    let text = String::from_utf8(renderer.finish(WINDOW)).unwrap();
    assert!(text.len() < 17 << 20, "{}", text.len());
    let kept = text.lines().filter(|kept| **kept == line).count();
    assert!(text.contains("\nbut this is said\n"));
    assert!(text.ends_with(&format!(
        "\n{} lines of logs are left out here, since the output did not keep up\n",
        400 - kept
    )));
}
