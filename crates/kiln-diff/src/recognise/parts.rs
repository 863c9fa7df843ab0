//! Comparing the parts of two files.

use super::layout::{Layout, Part};
use super::{Reading, Step, Subject};
use crate::byte_string::ByteString;
use crate::comparison::compare;
use crate::contents::Contents;
use crate::pair::{Pair, Side};
use crate::report::content::{Field, Finding, Observation, PartContents};
use std::collections::HashMap;
use std::io;

/// What has the same name on both sides, or is on one only. A name that comes again is another one.
#[derive(Default)]
struct Match<'p> {
    a: Option<(usize, &'p Part)>,
    b: Option<(usize, &'p Part)>,
}

impl Match<'_> {
    /// What matches are sorted by: the same whichever side is the first.
    fn key(&self) -> (usize, Option<&ByteString>) {
        let places = [self.a, self.b];
        let first = places.iter().flatten().map(|(index, _)| *index).min();
        let name = places.into_iter().flatten().find_map(|(_, part)| part.name.as_ref());
        (first.unwrap_or_default(), name)
    }
}

/// Compares parts by name. Nothing comes out if no part differs, or is known to.
pub(super) fn compare_parts<'a>(
    subject: &Subject<'a>,
    layouts: &Pair<Layout>,
    reading: &mut Reading<'_>,
) -> io::Result<Vec<Step<'a>>> {
    let format = layouts.a.format;
    let mut steps = Vec::new();
    let mut unknown = !(layouts.a.complete && layouts.b.complete);
    let matches = matches(layouts);
    for found in &matches {
        let (part, side) = match (found.a, found.b) {
            (Some((_, a)), Some((_, b))) => {
                unknown |= compare_part(subject, layouts, Pair::new(a, b), reading, &mut steps)?;
                continue;
            }
            (Some((_, part)), None) => (part, Side::A),
            (None, Some((_, part))) => (part, Side::B),
            (None, None) => continue,
        };
        let observation = Observation::PartOnlyIn { format, side };
        steps.push(Step::Tell(Finding { path: path_of(subject, part), observation }));
    }
    if is_reordered(&matches) {
        steps.push(subject.tell(Observation::PartsReordered { format }));
    }
    if unknown {
        steps.push(subject.not_examined());
    }
    Ok(steps)
}

fn matches(layouts: &Pair<Layout>) -> Vec<Match<'_>> {
    let mut by_name: HashMap<(&Option<ByteString>, usize), Match<'_>> = HashMap::new();
    let mut add = |layout, set: for<'m, 'p> fn(&'m mut Match<'p>, (usize, &'p Part))| {
        let layout: &Layout = layout;
        let mut times: HashMap<&Option<ByteString>, usize> = HashMap::new();
        for (index, part) in layout.parts.iter().enumerate() {
            let again = times.entry(&part.name).or_default();
            set(by_name.entry((&part.name, *again)).or_default(), (index, part));
            *again += 1;
        }
    };
    add(&layouts.a, |found, part| found.a = Some(part));
    add(&layouts.b, |found, part| found.b = Some(part));
    let mut matches: Vec<Match<'_>> = by_name.into_values().collect();
    matches.sort_by(|x, y| x.key().cmp(&y.key()));
    matches
}

/// Whether parts of both sides have another order there and here.
fn is_reordered(matches: &[Match<'_>]) -> bool {
    let mut places: Vec<(usize, usize)> =
        matches.iter().filter_map(|found| Some((found.a?.0, found.b?.0))).collect();
    places.sort_unstable();
    !places.iter().map(|(_, b)| b).is_sorted()
}

/// Compares a part that is on both sides. Returns whether it couldn't be compared wholly.
fn compare_part<'a>(
    subject: &Subject<'a>,
    layouts: &Pair<Layout>,
    parts: Pair<&Part>,
    reading: &mut Reading<'_>,
    steps: &mut Vec<Step<'a>>,
) -> io::Result<bool> {
    let extracts = Pair::new(
        subject.contents.a.part(parts.a.start, parts.a.length),
        subject.contents.b.part(parts.b.start, parts.b.length),
    );
    let sizes = extracts.map(|extract| extract.length());
    let known_same = parts.map(|part| part.start).are_equal()
        && sizes.are_equal()
        && parts.a.start.saturating_add(sizes.a) <= subject.first;
    let contents = if known_same {
        PartContents::Same
    } else if !reading.take(sizes.a.min(sizes.b)) {
        PartContents::NotCompared { sizes }
    } else {
        let dynamic = extracts.as_ref().map(|extract| extract as &dyn Contents);
        match compare(dynamic, 0, reading.windows)? {
            None => PartContents::Same,
            Some(extent) => PartContents::Differ { sizes, first_difference: extent.first },
        }
    };
    let fields = differing_fields(parts);
    let path = path_of(subject, parts.a);
    if matches!(contents, PartContents::Differ { .. }) || !fields.is_empty() {
        let format = layouts.a.format;
        let observation = Observation::Part { format, fields, contents };
        steps.push(Step::Tell(Finding { path: path.clone(), observation }));
    }
    if let PartContents::Differ { first_difference: first, .. } = contents
        && !parts.a.opaque
        && !parts.b.opaque
    {
        let name = parts.a.name.as_ref().map(|name| name.0.clone()).unwrap_or_default();
        steps.push(Step::Examine(Subject {
            path,
            name,
            contents: extracts,
            first,
            depth: subject.depth + 1,
        }));
    }
    Ok(matches!(contents, PartContents::NotCompared { .. }))
}

fn path_of(subject: &Subject<'_>, part: &Part) -> Vec<ByteString> {
    subject.path.iter().chain(&part.name).cloned().collect()
}

fn differing_fields(parts: Pair<&Part>) -> Vec<Field> {
    let value = |part: &Part, name| {
        part.fields.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&'static str> =
        parts.a.fields.iter().chain(&parts.b.fields).map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    let fields = names.into_iter().map(|name| Field { name, values: parts.map(|part| value(part, name)) });
    fields.filter(|field| !field.values.are_equal()).collect()
}
