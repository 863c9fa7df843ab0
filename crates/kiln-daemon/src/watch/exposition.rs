//! What is counted, as Prometheus reads it.

use kiln_build::{BuildPlace, Engine, Figures};
use kiln_metrics::{Exposition, Kind};
use kiln_store::blocking;
use kiln_substitute::Condition;

use super::Watch;

impl Watch {
    /// All that is counted.
    pub(super) async fn exposition(&self, engine: &Engine) -> String {
        let mut text = Exposition::new("kiln_daemon");
        text.gauge("start_time_seconds", "When the daemon began, since 1970.", self.started);
        self.connections_and_requests(&mut text);
        builds(&mut text, engine.figures());
        slots(&mut text, engine);
        substitution(&mut text, engine);
        store(&mut text, engine).await;
        text.into_text()
    }

    fn connections_and_requests(&self, text: &mut Exposition) {
        let figures = &self.figures;
        text.counter("connections_total", "Clients that were let in.", figures.connections.get());
        text.counter("connections_refused_total", "Clients that were not.", figures.refused.get());
        text.gauge("open_connections", "Clients that are connected.", figures.open.get());
        let requests = figures.requests();
        let requests = requests.iter().map(|(operation, count)| ([("operation", *operation)], *count));
        text.family(
            "requests_total",
            Kind::Counter,
            "Requests by operation of the worker protocol.",
            requests,
        );
    }
}

fn builds(text: &mut Exposition, figures: &Figures) {
    let builds = figures.builds();
    let builds = builds.iter().map(|((place, status), count)| {
        let place = match place {
            BuildPlace::Here => "here",
            BuildPlace::Elsewhere => "elsewhere",
        };
        ([("place", place), ("status", *status)], *count)
    });
    let help = "Builds that have ended, by the names that Nix gives to their ends.";
    text.family("builds_total", Kind::Counter, help, builds);
    let help = "Time from a build's place to the registration of its outputs.";
    text.histogram("build_duration_seconds", help, &figures.build_durations);
}

fn slots(text: &mut Exposition, engine: &Engine) {
    let occupancy = engine.occupancy(0);
    let kinds = [("build", occupancy.builds), ("substitution", occupancy.substitutions)];
    let mut family = |name, help, count: fn(&kiln_build::SlotUse) -> usize| {
        let samples = kinds.iter().map(|(kind, slots)| ([("kind", *kind)], count(slots) as u64));
        text.family(name, Kind::Gauge, help, samples);
    };
    family("slots", "Jobs that may run at once.", |slots| slots.total);
    family("slots_used", "Jobs that run.", |slots| slots.used);
    family("jobs_waiting", "Jobs that wait for a slot.", |slots| slots.waiting);
}

fn substitution(text: &mut Exposition, engine: &Engine) {
    let figures = engine.figures();
    for (name, help, counter) in [
        ("substituter_hits_total", "Wanted paths that a substituter had.", &figures.substituter_hits),
        ("substituter_misses_total", "Wanted paths that none had.", &figures.substituter_misses),
        ("substituted_paths_total", "Paths that were substituted.", &figures.substituted_paths),
        ("substituted_bytes_total", "Bytes of their archives.", &figures.substituted_bytes),
        ("downloaded_bytes_total", "Bytes that were transferred for them.", &figures.downloaded_bytes),
    ] {
        text.counter(name, help, counter.get());
    }
    let reports = engine.substituters_health();
    let labelled = |value: fn(&kiln_substitute::HealthReport) -> u64| {
        reports.iter().map(move |(url, report)| ([("substituter", url.as_str())], value(report)))
    };
    let help = "Whether a substituter is asked; 0 while it rests after failures.";
    text.family(
        "substituter_up",
        Kind::Gauge,
        help,
        labelled(|report| u64::from(report.condition == Condition::Well)),
    );
    let help = "Answers of a substituter.";
    text.family("substituter_answers_total", Kind::Counter, help, labelled(|report| report.answers));
    let help = "Failures of a substituter.";
    text.family("substituter_failures_total", Kind::Counter, help, labelled(|report| report.failures));
}

async fn store(text: &mut Exposition, engine: &Engine) {
    let store = engine.store();
    let figures = store.figures();
    for (name, help, counter) in [
        ("registered_paths_total", "Paths that became valid.", &figures.registered_paths),
        ("registered_bytes_total", "Bytes of their archives.", &figures.registered_bytes),
        ("collections_total", "Collections of garbage.", &figures.collections),
        ("collected_paths_total", "Paths that they deleted.", &figures.collected_paths),
        ("collected_bytes_total", "Bytes that they freed.", &figures.freed_bytes),
    ] {
        text.counter(name, help, counter.get());
    }
    let latencies = store.database().latencies();
    let help = "Time from asking for a connection that reads to giving it back.";
    text.histogram("database_read_duration_seconds", help, &latencies.reads);
    let help = "Time from handing over a change to the end of its transaction.";
    text.histogram("database_write_duration_seconds", help, &latencies.writes);
    let directory = store.config().locations.real_dir.clone();
    if let Ok(status) = blocking(move || rustix::fs::statvfs(&directory)).await {
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        text.gauge("store_free_bytes", "Bytes free where the store is.", free);
        text.gauge(
            "store_free_inodes",
            "Inodes free where the store is; 0 where there are none.",
            status.f_favail,
        );
    }
}
