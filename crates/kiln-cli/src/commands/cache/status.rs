//! `kiln cache status`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;

use clap::{Arg, ArgAction, Command};
use kiln_substitute::{CacheStatus, LookupCache, TimeToLive, open_substituter};
use serde_json::{Value, json};

use super::{Entry, Kind, Run};
use crate::calendar::utc;
use crate::daemon_store::usual_store_dir;
use crate::ends::surroundings;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Work;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "status",
    purpose: "Tell how the binary caches at servers fare",
    description: "Prints what is on record of each cache that is a substituter, or was one: whether it is asked or rests \
        since it has failed, why, how long its answers take, its priority, and for how many paths it is remembered that it \
        has them or doesn't. No server is asked. The record is that of the user's cache directory, which all programs of \
        the user share: what a daemon knows is told to the user that the daemon runs as. With '--reset', caches that rest \
        are asked at once again, by programs that run already too.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            ("kiln cache status", "all caches"),
            ("sudo kiln cache status --reset https://cache.example.org", "let the daemon ask it again"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    command.args([
        Arg::new("url").value_name("URL").num_args(0..).help("Tell of these caches alone"),
        Arg::new("reset")
            .long("reset")
            .action(ArgAction::SetTrue)
            .help("Have these caches, or all, asked again at once"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let work = Work::begin(invocation, invocation.settings()?)?;
    let variables = invocation.environment.variables();
    let environment: BTreeMap<Vec<u8>, Vec<u8>> =
        variables.map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    let directory = kiln_build::cache_directory(&environment);
    let known = work.wait(LookupCache::open(directory, TimeToLive::default()))?;
    let named: Vec<String> = invocation.values("url");
    let wanted = names(&work, invocation, &named)?;
    let status = work.wait(async {
        let found = known.status().await;
        if invocation.flag("reset") {
            let urls = if named.is_empty() { found.keys().cloned().collect() } else { wanted.clone() };
            known.reset_health(urls).await;
            return Ok::<_, Failure>(known.status().await);
        }
        Ok(found)
    })?;
    let mut caches: Vec<(String, CacheStatus)> =
        wanted.iter().map(|url| (url.clone(), status.get(url).cloned().unwrap_or_default())).collect();
    if named.is_empty() {
        caches.extend(status.into_iter().filter(|(url, _)| !wanted.contains(url)));
    }
    invocation.terminal.finish();
    output::print(if invocation.flag("json") {
        json::pretty(&caches.iter().map(|(url, status)| cache_json(url, status)).collect())
    } else {
        caches.iter().map(|(url, status)| lines(url, status)).collect()
    })?;
    Ok(0)
}

/// The names under which caches are on record: those that are given, or else the substituters that are at servers.
fn names(work: &Work, invocation: &Invocation<'_>, given: &[String]) -> Result<Vec<String>, Failure> {
    let surroundings = surroundings(work, invocation, usual_store_dir(invocation.environment)?)?;
    if !given.is_empty() {
        let name = |url: &String| Ok(open_substituter(url, &surroundings)?.name().to_owned());
        return given.iter().map(name).collect();
    }
    let opened =
        work.settings.substituters.iter().filter_map(|url| open_substituter(url, &surroundings).ok());
    let servers = opened.filter(|substituter| substituter.health().is_some());
    Ok(servers.map(|substituter| substituter.name().to_owned()).collect())
}

fn condition(status: &CacheStatus) -> &'static str {
    match (status.rest(), status.answered, status.failed) {
        (Some(_), ..) => "resting",
        (None, None, None) => "unknown",
        (None, answered, failed) if failed > answered => "failing",
        _ => "well",
    }
}

fn lines(url: &str, status: &CacheStatus) -> String {
    let mut text = format!("{url}\n  condition: {}", condition(status));
    if let Some(rest) = status.rest() {
        text += &format!(", asked again in {rest} s");
    }
    if let Some(failure) = &status.failure {
        text += &format!("\n  last failure: {failure}{}", at(status.failed));
    }
    if let Some(answered) = status.answered {
        text += &format!("\n  last answer:{}", at(Some(answered)));
    }
    if let Some(latency) = status.latency {
        text += &format!("\n  latency: {latency} ms");
    }
    if let Some(priority) = status.priority {
        text += &format!("\n  priority: {priority}");
    }
    text + &format!("\n  remembered: {} paths there, {} not\n", status.present, status.absent)
}

fn at(time: Option<i64>) -> String {
    time.map(|time| format!(" at {}", utc(u64::try_from(time).unwrap_or(0)))).unwrap_or_default()
}

fn cache_json(url: &str, status: &CacheStatus) -> Value {
    json!({
        "url": url,
        "condition": condition(status),
        "restsFor": status.rest(),
        "lastFailure": status.failure,
        "failedAt": status.failed,
        "answeredAt": status.answered,
        "latencyMs": status.latency,
        "priority": status.priority,
        "wantMassQuery": status.want_mass_query,
        "present": status.present,
        "absent": status.absent,
    })
}
