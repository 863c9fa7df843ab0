//! Recognising what differs in contents that do.
//!
//! What is known of a format is where its parts are and what its header says of each: a [`Layout`], read by the module of
//! the format, which is all that such a module does. Here the parts of both sides are matched by name and compared. Where
//! one differs that is of a known format itself, like an object in an archive, it is looked into in the same way; where
//! there are no parts, [`text`] and [`trace`] say what they see at the first difference.
//!
//! It is done with an explicit stack, at most [`MAX_DEPTH`] levels deep, and reads no more than a bounded number of bytes,
//! as the parts of a hostile file may all be the same bytes.

mod ar;
mod elf;
mod gzip;
mod layout;
mod parts;
mod pyc;
mod tar;
mod text;
mod trace;
mod zip;

use crate::byte_string::ByteString;
use crate::contents::{Contents, Extract, Windows};
use crate::limits::Limits;
use crate::pair::Pair;
use crate::report::content::{Finding, Observation};
use std::io;

/// How deep formats in formats are looked into: a section in an object in an archive in an archive.
const MAX_DEPTH: usize = 4;

/// Small files may be read so often, and a little more.
const TIMES_READ: u64 = 4;
const SMALL: u64 = 64 << 10;

/// The header of a part has no fewer bytes in any format, so there can't be more parts than that.
const SMALLEST_PART: u64 = 40;

/// Something whose contents differ.
struct Subject<'a> {
    /// Where it is in the file.
    path: Vec<ByteString>,
    /// Its own name.
    name: Vec<u8>,
    contents: Pair<Extract<'a>>,
    /// Offset of the first difference.
    first: u64,
    /// How many formats it is in.
    depth: usize,
}

/// What is to be done.
enum Step<'a> {
    Tell(Finding),
    Examine(Subject<'a>),
}

/// What may still be read, and the windows to do so.
struct Reading<'a> {
    limits: &'a Limits,
    windows: &'a mut Windows,
    left: u64,
}

impl Reading<'_> {
    /// Takes the right to read `bytes` bytes. Returns whether there was one.
    fn take(&mut self, bytes: u64) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

/// Says what is recognised in contents whose first difference is at `first`, and how many findings there are beyond.
pub(crate) fn examine(
    name: &[u8],
    contents: Pair<&dyn Contents>,
    first: u64,
    limits: &Limits,
    windows: &mut Windows,
) -> (Vec<Finding>, u64) {
    let size = contents.a.length().saturating_add(contents.b.length());
    let left = limits.bytes_examined.min(size.saturating_mul(TIMES_READ).saturating_add(SMALL));
    let mut reading = Reading { limits, windows, left };
    let (mut findings, mut omitted) = (Vec::new(), 0);
    let contents = contents.map(Extract::all);
    let subject = Subject { path: Vec::new(), name: name.to_vec(), contents, first, depth: 0 };
    let mut steps = vec![Step::Examine(subject)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Tell(finding) if findings.len() < limits.findings => findings.push(finding),
            Step::Tell(_) => omitted += 1,
            // Nothing found there would be told.
            Step::Examine(_) if findings.len() >= limits.findings => {}
            Step::Examine(subject) => {
                let next = look_into(&subject, &mut reading).unwrap_or_else(|_| vec![subject.not_examined()]);
                steps.extend(next.into_iter().rev());
            }
        }
    }
    (findings, omitted)
}

/// The steps that follow from one subject, in order.
fn look_into<'a>(subject: &Subject<'a>, reading: &mut Reading<'_>) -> io::Result<Vec<Step<'a>>> {
    let longest = subject.contents.a.length().max(subject.contents.b.length());
    let most = usize::try_from(longest / SMALLEST_PART).unwrap_or(usize::MAX).saturating_add(2);
    if subject.depth < MAX_DEPTH
        && let Some(layouts) = layout::read(&subject.name, subject.contents, most.min(reading.limits.parts))?
    {
        let steps = parts::compare_parts(subject, &layouts, reading)?;
        if !steps.is_empty() {
            return Ok(steps);
        }
    }
    text::describe(subject, reading)
}

impl Subject<'_> {
    /// Something that is told of it.
    fn tell(&self, observation: Observation) -> Step<'static> {
        Step::Tell(Finding { path: self.path.clone(), observation })
    }

    fn not_examined(&self) -> Step<'static> {
        self.tell(Observation::NotExamined)
    }
}
