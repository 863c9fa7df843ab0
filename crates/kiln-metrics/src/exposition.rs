//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;

use crate::histogram::Histogram;

/// What a family of numbers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
}

/// One number of a family: its labels, names and values, and the number.
pub type Sample<'a, const N: usize> = ([(&'static str, &'a str); N], u64);

/// A text that grows by one family of numbers after the other.
#[derive(Debug)]
pub struct Exposition {
    prefix: &'static str,
    text: String,
}

impl Exposition {
    /// The media type of the text.
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty text, in which the name of each family begins with `prefix` and `_`.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family::<0>(name, Kind::Counter, help, [([], value)]);
    }

    /// A number as it is now.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family::<0>(name, Kind::Gauge, help, [([], value)]);
    }

    /// Numbers of one name that labels tell apart. Names of labels must be names; values may be anything.
    pub fn family<'a, const N: usize>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'a, N>>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            self.line(name, &labels, value);
        }
    }

    /// How long something takes. The name should end in `_seconds`.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        // Read first, so that no bucket has more than there are in all.
        let cumulative = histogram.cumulative();
        let count = histogram.count();
        for (bound, below) in cumulative {
            let labels = format!("_bucket{{le=\"{}\"}}", bound.as_secs_f64());
            self.line(name, &labels, below);
        }
        self.line(name, "_bucket{le=\"+Inf\"}", count);
        let prefix = self.prefix;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{prefix}_{name}_sum {}", histogram.sum().as_secs_f64());
        self.line(name, "_count", count);
    }

    /// All of it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let prefix = self.prefix;
        let _ = writeln!(self.text, "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}");
    }

    fn line(&mut self, name: &str, rest: &str, value: u64) {
        let prefix = self.prefix;
        let _ = writeln!(self.text, "{prefix}_{name}{rest} {value}");
    }
}

/// The value of a label, which may be anything, so that it stays one.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_have_heads_and_labels_are_escaped() {
        let mut text = Exposition::new("kiln");
        text.gauge("open", "Open.", 3);
        let odd = "a\"b\\c\nd";
        text.family("built_total", Kind::Counter, "Built.", [([("status", odd), ("where", "")], 1)]);
        assert_eq!(
            text.into_text(),
            "# HELP kiln_open Open.\n# TYPE kiln_open gauge\nkiln_open 3\n\
             # HELP kiln_built_total Built.\n# TYPE kiln_built_total counter\n\
             kiln_built_total{status=\"a\\\"b\\\\c\\nd\",where=\"\"} 1\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::of_short();
        for milliseconds in [0, 30, 60_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let mut text = Exposition::new("x");
        text.histogram("took_seconds", "Took.", &histogram);
        let text = text.into_text();
        for line in [
            "# TYPE x_took_seconds histogram",
            "x_took_seconds_bucket{le=\"0.001\"} 1",
            "x_took_seconds_bucket{le=\"0.025\"} 1",
            "x_took_seconds_bucket{le=\"0.05\"} 2",
            "x_took_seconds_bucket{le=\"10\"} 2",
            "x_took_seconds_bucket{le=\"+Inf\"} 3",
            "x_took_seconds_sum 60.03",
            "x_took_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
