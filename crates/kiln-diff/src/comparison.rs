//! From where on two contents differ, and how much.

use crate::contents::{Contents, Extract, Windows};
use crate::limits::Limits;
use crate::pair::Pair;
use crate::recognise::examine;
use crate::report::content::{ContentDifference, Context};
use std::io;

/// So many equal bytes part two regions: hashes and the like have equal bytes by chance.
const REGION_GAP: u64 = 8;

/// The context begins at a multiple of this, one line before the first difference, and has three lines.
const CONTEXT_LINE: u64 = 16;

/// Compares two byte strings, or files. `name` may help to recognise the format. Nothing if they are the same.
///
/// # Errors
/// If they can't be read, or are shorter than they were said to be.
pub fn compare_contents(
    name: &[u8],
    contents: Pair<&dyn Contents>,
    limits: &Limits,
) -> io::Result<Option<ContentDifference>> {
    describe(name, contents, limits, &mut Windows::new())
}

/// As [`compare_contents`], through windows that are there.
pub(crate) fn describe(
    name: &[u8],
    contents: Pair<&dyn Contents>,
    limits: &Limits,
    windows: &mut Windows,
) -> io::Result<Option<ContentDifference>> {
    let sizes = contents.map(|contents| contents.length());
    let Some(extent) = compare(contents, limits.bytes_after_difference, windows)? else { return Ok(None) };
    let offset = (extent.first / CONTEXT_LINE * CONTEXT_LINE).saturating_sub(CONTEXT_LINE);
    let around =
        contents.try_map(|contents| Extract::all(contents).bytes(offset, 3 * CONTEXT_LINE as usize))?;
    let (findings, findings_omitted) = examine(name, contents, extent.first, limits, windows);
    Ok(Some(ContentDifference {
        sizes,
        first_difference: extent.first,
        differing_bytes: extent.bytes,
        regions: extent.regions,
        compared: extent.compared,
        not_compared: sizes.a.min(sizes.b) - extent.compared,
        context: Context { offset, a: around.a, b: around.b },
        findings,
        findings_omitted,
    }))
}

/// How much differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// Offset of the first difference.
    pub(crate) first: u64,
    pub(crate) bytes: u64,
    pub(crate) regions: u64,
    /// How many bytes of each were compared.
    pub(crate) compared: u64,
    /// Equal bytes since the last difference.
    gap: u64,
}

impl Extent {
    /// Adds a byte that differs.
    fn differing(&mut self) {
        self.bytes += 1;
        self.regions += u64::from(self.regions == 0 || self.gap >= REGION_GAP);
        self.gap = 0;
    }

    /// Adds bytes that follow those before.
    fn add(&mut self, shown: Pair<&[u8]>) {
        if shown.are_equal() {
            self.gap += shown.a.len() as u64;
        } else {
            for (a, b) in shown.a.iter().zip(shown.b) {
                if a == b { self.gap += 1 } else { self.differing() }
            }
        }
        self.compared += shown.a.len() as u64;
    }
}

/// Compares up to the first difference, and `after` bytes more. Nothing if there is no difference.
pub(crate) fn compare(
    contents: Pair<&dyn Contents>,
    after: u64,
    windows: &mut Windows,
) -> io::Result<Option<Extent>> {
    let sizes = contents.map(|contents| contents.length());
    let common = sizes.a.min(sizes.b);
    let mut offset = 0;
    while offset < common {
        let shown = windows.show(contents, offset, common - offset)?;
        if !shown.are_equal() {
            let equal = shown.a.iter().zip(shown.b).take_while(|(a, b)| a == b).count() as u64;
            let first = offset + equal;
            let end = common.min(first.saturating_add(after));
            return extent(contents, first, end, windows).map(Some);
        }
        offset += shown.a.len() as u64;
    }
    let only_longer = Extent { first: common, compared: common, ..Extent::default() };
    Ok((!sizes.are_equal()).then_some(only_longer))
}

/// How much differs from `first`, which does, to `end`.
fn extent(contents: Pair<&dyn Contents>, first: u64, end: u64, windows: &mut Windows) -> io::Result<Extent> {
    let mut extent = Extent { first, compared: first, ..Extent::default() };
    while extent.compared < end {
        extent.add(windows.show(contents, extent.compared, end - extent.compared)?);
    }
    Ok(extent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(a: &[u8], b: &[u8], after: u64) -> Option<Extent> {
        compare(Pair::new(&a, &b), after, &mut Windows::new()).unwrap()
    }

    #[test]
    fn extents() {
        assert_eq!(compared(b"", b"", 9), None);
        assert_eq!(compared(b"same", b"same", 9), None);
        let extent = |a: &[u8], b: &[u8], after| {
            let extent = compared(a, b, after).unwrap();
            (extent.first, extent.bytes, extent.regions, extent.compared)
        };
        assert_eq!(extent(b"", b"x", 9), (0, 0, 0, 0));
        assert_eq!(extent(b"same", b"same but longer", 9), (4, 0, 0, 4));
        assert_eq!(extent(b"-a-a-", b"-b-b-", 9), (1, 2, 1, 5));
        assert_eq!(extent(b"a1234567a", b"b1234567b", 99), (0, 2, 1, 9));
        assert_eq!(extent(b"a12345678a", b"b12345678b", 99), (0, 2, 2, 10));
        assert_eq!(extent(b"a12345678a", b"b12345678b", 9), (0, 1, 1, 9));
        assert_eq!(extent(b"-a", b"-b", 0), (1, 0, 0, 1));
    }

    /// What a window ends in is no different from what is in its middle.
    #[test]
    fn windows_leave_no_seams() {
        let size = 200_000;
        for at in [0, 65_535, 65_536, 65_537, 131_071, 131_072, size - 1] {
            let (a, mut b) = (vec![7; size], vec![7; size]);
            b[at] = 8;
            let extent = compared(&a, &b, u64::MAX).unwrap();
            assert_eq!((extent.first, extent.bytes, extent.regions), (at as u64, 1, 1));
            assert_eq!(extent.compared, size as u64);
            let shorter = compared(&a[..at], &b, u64::MAX).unwrap();
            assert_eq!((shorter.first, shorter.bytes, shorter.compared), (at as u64, 0, at as u64));
        }
    }
}
