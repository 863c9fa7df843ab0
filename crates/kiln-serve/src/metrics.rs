//! What is counted, and the text by which Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_metrics::{Counter, Exposition, Gauge, Histogram, Kind};

/// Counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Answers by kind of resource and status: there are few of either.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latencies: Histogram,
    bytes: Counter,
    broken: Counter,
    connections: Counter,
    open: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
            latencies: Histogram::of_short(),
            bytes: Counter::default(),
            broken: Counter::default(),
            connections: Counter::default(),
            open: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Counts the head of an answer, which was ready so long after the request had come.
    pub(crate) fn answered(&self, kind: &'static str, status: u16, latency: Duration) {
        // Counters are right whatever happened to who counted last.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((kind, status)).or_default() += 1;
        self.latencies.observe(latency);
    }

    /// Counts bytes of bodies.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes.add(bytes as u64);
    }

    /// Counts an answer that broke off in the middle.
    pub(crate) fn broke_off(&self) {
        self.broken.increment();
    }

    /// Counts a connection.
    pub(crate) fn connected(&self) {
        self.connections.increment();
        self.open.raise();
    }

    /// Counts the end of a connection.
    pub(crate) fn disconnected(&self) {
        self.open.lower();
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let mut text = Exposition::new("kiln_serve");
        let answers: Vec<(&str, String, u64)> = {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.iter().map(|((kind, status), count)| (*kind, status.to_string(), *count)).collect()
        };
        let answers = answers
            .iter()
            .map(|(kind, status, count)| ([("kind", *kind), ("status", status.as_str())], *count));
        text.family("requests_total", Kind::Counter, "Requests by kind and status of the answer.", answers);
        let help = "Time from a request to the head of its answer.";
        text.histogram("request_duration_seconds", help, &self.latencies);
        text.counter("response_bytes_total", "Bytes of the bodies of answers.", self.bytes.get());
        let help = "Answers that broke off in the middle.";
        text.counter("responses_broken_total", help, self.broken.get());
        text.counter("connections_total", "Connections that were accepted.", self.connections.get());
        text.gauge("open_connections", "Connections that are open.", self.open.get());
        text.into_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_told_by_its_name() {
        let metrics = Metrics::default();
        for (kind, status, milliseconds) in [("nar", 200, 0), ("nar", 206, 30), ("narinfo", 404, 60_000)] {
            metrics.answered(kind, status, Duration::from_millis(milliseconds));
        }
        metrics.sent(7);
        metrics.connected();
        let text = metrics.text();
        for line in [
            "kiln_serve_requests_total{kind=\"nar\",status=\"206\"} 1",
            "kiln_serve_request_duration_seconds_bucket{le=\"0.001\"} 1",
            "kiln_serve_request_duration_seconds_count 3",
            "kiln_serve_response_bytes_total 7",
            "kiln_serve_open_connections 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        metrics.disconnected();
        assert!(metrics.text().contains("kiln_serve_open_connections 0\n"));
    }
}
