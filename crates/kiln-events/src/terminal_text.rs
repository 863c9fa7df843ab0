//! Making a builder's or a peer's bytes safe to show on a terminal (behaviour L4).
//!
//! Terminals obey escape sequences: they set titles and clipboards, move the cursor over other people's text, answer
//! with what then looks like typed input. Of all sequences only SGR (colours, bold) is harmless, and only that may stay.

/// Whether colours may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// SGR sequences stay; a line that doesn't undo its own ends with a reset.
    Keep,
    /// No escape sequence stays.
    Strip,
}

/// The longest SGR sequence that stays.
const MAX_SGR: usize = 64;

const RESET: &str = "\u{1b}[0m";

/// One line, safe to show.
///
/// Tabs stay; all other control characters (C0, DEL, C1) and all escape sequences go, except SGR with
/// [`Colours::Keep`]. What isn't UTF-8 becomes U+FFFD. Takes linear time.
#[must_use]
pub fn safe_line(line: &[u8], colours: Colours) -> String {
    let text = String::from_utf8_lossy(line);
    let mut safe = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest: &str = &text;
    loop {
        let plain = rest.find(|c: char| c.is_control() && c != '\t').unwrap_or(rest.len());
        let (keep, control) = rest.split_at_checked(plain).unwrap_or((rest, ""));
        safe.push_str(keep);
        let mut chars = control.chars();
        let after = match chars.next() {
            None => break,
            Some('\u{1b}') => {
                let sequence = escape_sequence(chars.as_str());
                if colours == Colours::Keep
                    && let Some(sgr) = sequence.sgr
                {
                    safe.push_str("\u{1b}[");
                    safe.push_str(sgr);
                    coloured = !matches!(sgr, "m" | "0m");
                }
                sequence.after
            }
            Some('\u{9b}') => control_sequence(chars.as_str()).after,
            Some('\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => after_string(chars.as_str()),
            Some(_) => chars.as_str(),
        };
        rest = after;
    }
    if coloured {
        safe.push_str(RESET);
    }
    safe
}

/// Bytes from outside for a message: one line, safe to show, and of at most some 1024 bytes.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 1024;
    let (shown, mark) = match bytes.get(..LONGEST) {
        Some(start) if bytes.len() > LONGEST => (start, "…"),
        _ => (bytes, ""),
    };
    safe_line(shown, Colours::Strip) + mark
}

/// Several lines, each made safe as by [`safe_line`].
#[must_use]
pub fn safe_text(text: &[u8], colours: Colours) -> String {
    let lines: Vec<String> = text.split(|&byte| byte == b'\n').map(|line| safe_line(line, colours)).collect();
    lines.join("\n")
}

/// An escape sequence: what follows it, and parameters and final `m` if it is a short SGR one.
struct Sequence<'a> {
    after: &'a str,
    sgr: Option<&'a str>,
}

/// The sequence that begins with an ESC before `rest`.
fn escape_sequence(rest: &str) -> Sequence<'_> {
    let mut chars = rest.chars();
    let after = match chars.next() {
        Some('[') => return control_sequence(chars.as_str()),
        Some(']' | 'P' | 'X' | '^' | '_') => after_string(chars.as_str()),
        // Two-byte sequences, and longer ones with intermediate bytes (character sets).
        Some(' '..='/') => {
            let last = rest.trim_start_matches(|c| (' '..='/').contains(&c));
            let mut chars = last.chars();
            if chars.next().is_some_and(|c| ('0'..='~').contains(&c)) { chars.as_str() } else { last }
        }
        Some('0'..='~') => chars.as_str(),
        _ => rest,
    };
    Sequence { after, sgr: None }
}

/// The control sequence whose introducer stands before `rest`.
fn control_sequence(rest: &str) -> Sequence<'_> {
    let after_parameters = rest.trim_start_matches(|c| ('0'..='?').contains(&c));
    let after_intermediates = after_parameters.trim_start_matches(|c| (' '..='/').contains(&c));
    let mut chars = after_intermediates.chars();
    let last = chars.next();
    // A sequence that something else breaks into ends there.
    if !last.is_some_and(|c| ('@'..='~').contains(&c)) {
        return Sequence { after: after_intermediates, sgr: None };
    }
    let after = chars.as_str();
    // By length: comparing what follows would take time for all of it, at every sequence.
    let body = rest.len().checked_sub(after.len()).and_then(|length| rest.get(..length)).unwrap_or_default();
    let parameters = body.strip_suffix('m');
    let is_sgr = parameters.is_some_and(|parameters| {
        parameters.len() <= MAX_SGR
            && parameters.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
    });
    Sequence { after, sgr: is_sgr.then_some(body) }
}

/// What follows a control string (title, clipboard, device control): it ends at BEL or ST, else at the end of the line.
fn after_string(rest: &str) -> &str {
    let Some(at) = rest.find(['\u{7}', '\u{9c}', '\u{1b}']) else { return "" };
    let Some((_, end)) = rest.split_at_checked(at) else { return "" };
    // An ESC that does not begin ST breaks the string off and begins another sequence.
    end.strip_prefix("\u{1b}\\").or_else(|| end.strip_prefix(['\u{7}', '\u{9c}'])).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strip(line: &[u8]) -> String {
        safe_line(line, Colours::Strip)
    }

    #[test]
    fn quoted_is_one_bounded_line() {
        assert_eq!(quoted(b"a\n\x1b[31mb\xff"), "ab\u{fffd}");
        let long = quoted(&[b'x'; 5000]);
        assert!(long.ends_with("x…") && long.len() < 1100, "{long}");
    }

    #[test]
    fn l4_sequences_go() {
        assert_eq!(strip(b"plain \t text"), "plain \t text");
        assert_eq!(strip(b"a\x1b[31;1mred\x1b[0m."), "ared.");
        assert_eq!(strip(b"\x1b]0;title\x07x"), "x");
        assert_eq!(strip(b"\x1b]52;c;ZXZpbA==\x1b\\x"), "x");
        assert_eq!(strip(b"\x1bPdevice\x1b\\x"), "x");
        assert_eq!(strip(b"\x1b]0;no end"), "");
        assert_eq!(strip(b"\x1b]0;broken\x1b[2Jx"), "x");
        assert_eq!(strip(b"\x1b[2J\x1b[H\x1b[?25lx\x1b[6n"), "x");
        assert_eq!(strip(b"\x1b(Bx\x1b7y\x1bcz"), "xyz");
        assert_eq!(strip(b"a\x08\x7f\x00\x07b\n\rc"), "abc");
        assert_eq!(strip("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{85}".as_bytes()), "abc");
        assert_eq!(strip(b"\x1b[12\x01mx"), "mx");
        assert_eq!(strip(b"x\x1b"), "x");
        assert_eq!(strip(b"\x1b["), "");
        assert_eq!(strip(b"\xff\x9b\x41"), "\u{fffd}\u{fffd}A");
    }

    #[test]
    fn l4_colours_stay_if_wanted_and_do_not_run_on() {
        let keep = |line: &[u8]| safe_line(line, Colours::Keep);
        assert_eq!(keep(b"a\x1b[31;1mred\x1b[0m"), "a\x1b[31;1mred\x1b[0m");
        assert_eq!(keep(b"\x1b[1ma\x1b[mb"), "\x1b[1ma\x1b[mb");
        assert_eq!(keep(b"\x1b[0;1ma"), "\x1b[0;1ma\x1b[0m");
        assert_eq!(keep(b"\x1b[38:5:1mred"), "\x1b[38:5:1mred\x1b[0m");
        assert_eq!(keep(b"\x1b[?25m\x1b[>4;2mx\x1b[1 mx"), "xx");
        let long = format!("\x1b[{}mx", "1;".repeat(100));
        assert_eq!(keep(long.as_bytes()), "x");
        assert_eq!(safe_text(b"\x1b[1ma\nb\x07", Colours::Keep), "\x1b[1ma\x1b[0m\nb");
    }

    proptest! {
        #[test]
        fn l4_nothing_but_text_comes_out(line in proptest::collection::vec(prop_oneof![
            Just(0x1b), Just(b'['), Just(b']'), Just(b'm'), Just(b'\\'), Just(7), any::<u8>()
        ], 0..60)) {
            let stripped = strip(&line);
            prop_assert!(stripped.chars().all(|c| c == '\t' || !c.is_control()), "{:?}", stripped);
            // With colours, what else there is is the same, and stripping the colours gives the stripped line.
            prop_assert_eq!(strip(safe_line(&line, Colours::Keep).as_bytes()), stripped);
        }

        #[test]
        fn l4_text_without_controls_stays(line in "[^\\p{Cc}]{0,40}") {
            prop_assert_eq!(strip(line.as_bytes()), line);
        }
    }

    /// Many begun sequences must not make each scan run to the end.
    #[test]
    fn l4_linear_time() {
        let begun = "\x1b]".repeat(500_000);
        let started = std::time::Instant::now();
        assert_eq!(strip(begun.as_bytes()), "");
        let parameters = "\x1b[1;".repeat(500_000);
        assert_eq!(strip(parameters.as_bytes()), "");
        let whole = "\x1b[31m".repeat(500_000);
        assert_eq!(strip(whole.as_bytes()), "");
        assert_eq!(safe_line(whole.as_bytes(), Colours::Keep).len(), whole.len() + RESET.len());
        assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
    }
}
