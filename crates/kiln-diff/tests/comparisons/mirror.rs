//! What a comparison the other way around has to say.

use kiln_diff::{Change, ContentDifference, Context, Difference, Field, Finding, Observation, PartContents};
use kiln_diff::{Pair, Report, Side, Totals};

fn swap<T: Clone>(pair: &Pair<T>) -> Pair<T> {
    pair.clone().mirrored()
}

fn side(side: Side) -> Side {
    match side {
        Side::A => Side::B,
        Side::B => Side::A,
    }
}

pub(crate) fn report(report: &Report) -> Report {
    let Totals { only_in_a, only_in_b, .. } = report.totals;
    Report {
        roots: swap(&report.roots),
        differences: report.differences.iter().map(difference).collect(),
        totals: Totals { only_in_a: only_in_b, only_in_b: only_in_a, ..report.totals },
    }
}

fn difference(difference: &Difference) -> Difference {
    let change = match &difference.change {
        Change::OnlyIn { side: only, node, size, below, more } => {
            Change::OnlyIn { side: side(*only), node: *node, size: *size, below: *below, more: *more }
        }
        Change::Type { nodes } => Change::Type { nodes: swap(nodes) },
        Change::Executable { executable } => Change::Executable { executable: swap(executable) },
        Change::Target { targets } => Change::Target { targets: swap(targets) },
        Change::Contents(contents) => Change::Contents(Box::new(content(contents))),
        Change::NotCompared { obstacle } => Change::NotCompared { obstacle: obstacle.clone() },
    };
    Difference { path: difference.path.clone(), change }
}

pub(crate) fn content(difference: &ContentDifference) -> ContentDifference {
    let Context { offset, a, b } = difference.context.clone();
    ContentDifference {
        sizes: swap(&difference.sizes),
        context: Context { offset, a: b, b: a },
        findings: difference.findings.iter().map(finding).collect(),
        ..difference.clone()
    }
}

fn finding(finding: &Finding) -> Finding {
    let observation = match &finding.observation {
        Observation::Part { format, fields, contents } => Observation::Part {
            format: *format,
            fields: fields
                .iter()
                .map(|field| Field { name: field.name, values: swap(&field.values) })
                .collect(),
            contents: part_contents(*contents),
        },
        Observation::PartOnlyIn { format, side: only } => {
            Observation::PartOnlyIn { format: *format, side: side(*only) }
        }
        Observation::Line { number, lines } => Observation::Line { number: *number, lines: swap(lines) },
        Observation::Trace { trace, values } => Observation::Trace { trace: *trace, values: swap(values) },
        same => same.clone(),
    };
    Finding { path: finding.path.clone(), observation }
}

fn part_contents(contents: PartContents) -> PartContents {
    match contents {
        PartContents::Same => PartContents::Same,
        PartContents::Differ { sizes, first_difference } => {
            PartContents::Differ { sizes: swap(&sizes), first_difference }
        }
        PartContents::NotCompared { sizes } => PartContents::NotCompared { sizes: swap(&sizes) },
    }
}
