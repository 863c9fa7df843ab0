//! Substituters: whether they answer and how fast, and what time it is there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use kiln_substitute::{Properties, Substituter, open_substituter};

use super::{Facts, Finding};
use crate::daemon_store::usual_store_dir;
use crate::ends::surroundings;

const AREA: &str = "Binary caches";
const CLOCK: &str = "Clock";

/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A clock that differs by more is wrong: certificates and signatures may not hold then.
const TOLERANCE: Duration = Duration::from_secs(120);

/// The beginning of 2024: no clock that is right says less.
const PAST: u64 = 1_704_067_200;

/// The beginning of 2100: nor more.
const FUTURE: u64 = 4_102_444_800;

/// What became of asking.
struct Answer {
    name: String,
    result: Result<Properties, String>,
    took: Duration,
}

/// Asks all of them at once.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let (mut findings, answers) = match ask(facts) {
        Ok(asked) => asked,
        Err(failure) => (vec![Finding::problem(AREA, failure.message())], Vec::new()),
    };
    if facts.settings().substituters.is_empty() {
        findings
            .push(Finding::note(AREA, "there are none ('substituters' is empty): everything is built here"));
    }
    findings.extend(answers.iter().map(told));
    findings.extend(clock(&answers, SystemTime::now()));
    findings
}

fn ask(facts: &Facts<'_>) -> Result<(Vec<Finding>, Vec<Answer>), crate::failure::Failure> {
    let mut findings = Vec::new();
    let surroundings =
        surroundings(facts.work, facts.invocation, usual_store_dir(facts.invocation.environment)?)?;
    let mut opened = Vec::new();
    for url in &facts.settings().substituters {
        match facts.work.wait(async { open_substituter(url, &surroundings) }) {
            Ok(substituter) => opened.push(substituter),
            Err(error) => findings.push(
                Finding::problem(AREA, error.to_string()).advise("correct or delete it in 'substituters'"),
            ),
        }
    }
    let answers = facts.work.wait(join_all(opened.iter().map(|substituter| answer(&**substituter))));
    Ok((findings, answers))
}

async fn answer(substituter: &dyn Substituter) -> Answer {
    let begin = Instant::now();
    let result = match tokio::time::timeout(PATIENCE, substituter.properties()).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it has not answered within {} s", PATIENCE.as_secs())),
    };
    Answer { name: substituter.name().to_owned(), result, took: begin.elapsed() }
}

fn told(answer: &Answer) -> Finding {
    let Answer { name, result, took } = answer;
    match result {
        Ok(properties) => Finding::ok(
            AREA,
            format!("'{name}' answers after {} ms, priority {}", took.as_millis(), properties.priority),
        ),
        // Builds go on without it, so that it is no problem.
        Err(reason) => Finding::warning(AREA, format!("'{name}' cannot be used: {reason}"))
            .advise("look at network, proxy and certificates, or take it out of 'substituters'"),
    }
}

/// Compares the clock with what servers say, and with sense.
fn clock(answers: &[Answer], now: SystemTime) -> Vec<Finding> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    if !(PAST..FUTURE).contains(&seconds) {
        let text = "this machine's clock is wrong: the year cannot be. Certificates do not hold, and ages come out wrong";
        return vec![
            Finding::problem(CLOCK, text).advise("set it, for instance by 'timedatectl set-ntp true'"),
        ];
    }
    let servers = answers
        .iter()
        .filter_map(|answer| Some((&answer.name, answer.took, answer.result.as_ref().ok()?.date?)));
    let differences = servers.map(|(name, took, date)| {
        let difference = now.duration_since(date).unwrap_or_else(|error| error.duration());
        (name, difference, took)
    });
    // All servers are not wrong at once.
    let least = differences.min_by_key(|(_, difference, _)| *difference);
    vec![match least {
        None => Finding::ok(CLOCK, "its year is plausible; no server was there to compare it with"),
        Some((name, difference, took)) if difference > TOLERANCE + took => {
            let text = format!("it differs by {} s from that of '{name}'", difference.as_secs());
            Finding::warning(CLOCK, text).advise("set it, for instance by 'timedatectl set-ntp true'")
        }
        Some((name, _, _)) => Finding::ok(CLOCK, format!("it agrees with that of '{name}'")),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn answer(date: Option<u64>) -> Answer {
        let result = Ok(Properties { priority: 1, want_mass_query: true, date: date.map(at) });
        Answer { name: "http://c".into(), result, took: Duration::ZERO }
    }

    #[test]
    fn clocks_are_compared() {
        let level = |dates: &[Option<u64>], now: u64| {
            let answers: Vec<Answer> = dates.iter().map(|date| answer(*date)).collect();
            clock(&answers, at(now))[0].level
        };
        let now = PAST + 1000;
        assert_eq!(level(&[], now), Level::Ok);
        assert_eq!(level(&[], PAST - 1), Level::Problem);
        assert_eq!(level(&[], FUTURE), Level::Problem);
        assert_eq!(level(&[None, Some(now - 100)], now), Level::Ok);
        assert_eq!(level(&[Some(now + 500)], now), Level::Warning);
        assert_eq!(level(&[Some(now + 500), Some(now)], now), Level::Ok, "one server may be wrong");
    }
}
