//! A report for people: one line for each difference, what it is, where, and how both sides are; below it, what is known
//! of contents.

use super::content::{ContentDifference, Context, Field, Finding, Format, Observation, PartContents, Trace};
use super::{Change, Difference, NodeKind, Obstacle, Report, Totals};
use crate::byte_string::ByteString;
use crate::pair::{Pair, Side};
use std::fmt::{self, Display, Formatter};

/// Width of what a difference is, so that paths are below each other.
const KIND: usize = 12;

/// Where what belongs to a difference begins.
const INDENT: usize = KIND + 4;

/// Bytes in a line of context.
const LINE: usize = 16;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "A is {}", self.roots.a)?;
        writeln!(f, "B is {}", self.roots.b)?;
        for difference in &self.differences {
            difference.fmt(f)?;
        }
        if self.omitted() > 0 {
            writeln!(f, "{} not shown", counted(self.omitted(), "more difference", "more differences"))?;
        }
        self.totals.fmt(f)
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.differences == 0 {
            return writeln!(f, "no differences ({} compared)", counted(self.compared, "entry", "entries"));
        }
        let kinds = [
            (self.only_in_a, "only in A"),
            (self.only_in_b, "only in B"),
            (self.types, "of type"),
            (self.executable, "of executable bit"),
            (self.targets, "of target"),
            (self.contents, "of contents"),
            (self.not_compared, "not compared"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect();
        writeln!(f, "{}: {}", counted(self.differences, "difference", "differences"), kinds.join(", "))
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match &self.change {
            Change::OnlyIn { side, .. } => format!("only in {side}"),
            Change::Type { .. } => "type".to_owned(),
            Change::Executable { .. } => "executable".to_owned(),
            Change::Target { .. } => "target".to_owned(),
            Change::Contents(_) => "contents".to_owned(),
            Change::NotCompared { .. } => "not compared".to_owned(),
        };
        let root = ByteString::from(".");
        let path = if self.path.0.is_empty() { &root } else { &self.path };
        write!(f, "{kind:KIND$}  {path}: ")?;
        match &self.change {
            Change::OnlyIn { node, size, below, more, .. } => only_in(f, *node, *size, *below, *more),
            Change::Type { nodes } => writeln!(f, "{}", sides(nodes)),
            Change::Executable { executable } => {
                writeln!(f, "{} only", if executable.a { "in A" } else { "in B" })
            }
            Change::Target { targets } => writeln!(f, "{}", quoted(targets)),
            Change::Contents(contents) => contents.fmt(f),
            Change::NotCompared { obstacle } => writeln!(f, "{obstacle}"),
        }
    }
}

fn only_in(f: &mut Formatter<'_>, node: NodeKind, size: Option<u64>, below: u64, more: bool) -> fmt::Result {
    write!(f, "{node}")?;
    if let Some(size) = size {
        write!(f, ", {}", counted(size, "byte", "bytes"))?;
    }
    if node == NodeKind::Directory {
        let least = if more { "at least " } else { "" };
        write!(f, ", {least}{} below", counted(below, "entry", "entries"))?;
    }
    writeln!(f)
}

impl Display for ContentDifference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let first = self.first_difference;
        if self.sizes.are_equal() {
            write!(f, "{} in both", counted(self.sizes.a, "byte", "bytes"))?;
        } else {
            write!(f, "{} in A, {} in B", counted(self.sizes.a, "byte", "bytes"), self.sizes.b)?;
        }
        write!(f, "; first difference at {first} ({first:#x})")?;
        if self.differing_bytes > 0 {
            write!(f, "; {}", counted(self.differing_bytes, "byte differs", "bytes differ"))?;
        }
        if self.regions > 1 {
            write!(f, " in {} places", self.regions)?;
        }
        if self.not_compared > 0 {
            write!(f, "; the last {} not compared", counted(self.not_compared, "byte", "bytes"))?;
        }
        writeln!(f)?;
        // Lines of text tell as much, in fewer signs.
        let is_line = |finding: &Finding| matches!(finding.observation, Observation::Line { .. });
        if !self.findings.iter().any(|finding| finding.path.is_empty() && is_line(finding)) {
            self.context.fmt(f)?;
        }
        for finding in &self.findings {
            writeln!(f, "{:INDENT$}{finding}", "")?;
        }
        if self.findings_omitted > 0 {
            let more = counted(self.findings_omitted, "more finding", "more findings");
            writeln!(f, "{:INDENT$}{more} not shown", "")?;
        }
        Ok(())
    }
}

/// Only the lines that differ.
impl Display for Context {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lines = Pair::new(&self.a, &self.b).map(|bytes| bytes.chunks(LINE).collect::<Vec<_>>());
        for (side, these, others) in [(Side::A, &lines.a, &lines.b), (Side::B, &lines.b, &lines.a)] {
            for (index, line) in
                these.iter().enumerate().filter(|(index, line)| others.get(*index) != Some(*line))
            {
                let offset = self.offset + (index * LINE) as u64;
                let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                let shown: String = line.iter().map(|byte| printable(*byte)).collect();
                let (hex, width) = (hex.join(" "), 3 * LINE - 1);
                writeln!(f, "{:INDENT$}{side} {offset:08x}  {hex:width$}  |{shown}|", "")?;
            }
        }
        Ok(())
    }
}

fn printable(byte: u8) -> char {
    if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '.' }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path: Vec<String> = self.path.iter().map(ToString::to_string).collect();
        let place = if path.is_empty() { String::new() } else { format!("{}: ", path.join(" > ")) };
        match &self.observation {
            Observation::Part { format, fields, contents } => {
                write!(f, "{format} {}{place}", if path.is_empty() { "file: " } else { format.part() })?;
                part(f, fields, contents)
            }
            Observation::PartOnlyIn { format, side } => {
                write!(f, "{format} {}{place}only in {side}", format.part())
            }
            Observation::PartsReordered { format } => {
                write!(f, "{place}the {format} {}s have another order", format.part().trim_end())
            }
            Observation::Line { number, lines } => {
                writeln!(f, "{place}line {number} in A: {}", lines.a)?;
                write!(f, "{:INDENT$}{place}line {number} in B: {}", "", lines.b)
            }
            Observation::LinesReordered { lines } => {
                write!(f, "{place}the same {} in another order", counted(*lines, "line", "lines"))
            }
            Observation::Trace { trace, values } => write!(f, "{place}{trace} {}", quoted(values)),
            Observation::NotExamined => write!(f, "{place}not wholly examined"),
        }
    }
}

fn part(f: &mut Formatter<'_>, fields: &[Field], contents: &PartContents) -> fmt::Result {
    for Field { name, values } in fields {
        let value =
            |value: &Option<ByteString>| value.as_ref().map_or("none".to_owned(), |value| format!("{value}"));
        write!(f, "{} {}; ", name.replace('-', " "), sides(&values.as_ref().map(value)))?;
    }
    match contents {
        PartContents::Same => write!(f, "same contents"),
        PartContents::Differ { first_difference, .. } => {
            write!(f, "contents differ from {first_difference} ({first_difference:#x}) on")
        }
        PartContents::NotCompared { .. } => write!(f, "contents not compared"),
    }
}

fn quoted(pair: &Pair<ByteString>) -> String {
    format!("'{}' in A, '{}' in B", pair.a, pair.b)
}

/// Both sides in words.
fn sides<T: Display>(pair: &Pair<T>) -> String {
    format!("{} in A, {} in B", pair.a, pair.b)
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl Display for Side {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

impl Display for NodeKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Unknown => "unknown",
        })
    }
}

impl Display for Obstacle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpecialFile { node } => write!(f, "{node} in both"),
            Self::TooDeep => f.write_str("too many directories in each other"),
            Self::TooManyEntries => f.write_str("too many entries"),
            Self::Changed => f.write_str("it changed meanwhile"),
            Self::Unreadable { message } => write!(f, "{message}"),
        }
    }
}

impl Format {
    /// What its parts are called, and a space.
    fn part(self) -> &'static str {
        match self {
            Self::Ar => "member ",
            Self::Elf => "section ",
            Self::Tar | Self::Zip => "entry ",
            Self::Gzip | Self::Pyc => "",
        }
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ar => "ar",
            Self::Elf => "ELF",
            Self::Gzip => "gzip",
            Self::Pyc => "Python bytecode",
            Self::Tar => "tar",
            Self::Zip => "zip",
        })
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timestamp => "time",
            Self::BuildPath => "build path",
            Self::StorePath => "store path",
            Self::Uuid => "UUID",
            Self::Hexadecimal => "hexadecimal digits",
        })
    }
}
