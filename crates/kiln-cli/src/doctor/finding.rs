//! What was found, and how it is told.

use kiln_events::{Colours, safe_text};
use serde_json::{Value, json};

/// How good or bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It works, but not as well or as safely as it could.
    Warning,
    /// Something does not work.
    Problem,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) area: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What is so, and what it means.
    pub(crate) text: String,
    /// What can be done about it.
    pub(crate) advice: Option<String>,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    /// Something that is as it should be.
    pub(super) fn ok(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, text: text.into(), advice: None }
    }

    /// Something worth knowing.
    pub(super) fn note(area: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::ok(area, text) }
    }

    /// Something that could be better.
    pub(super) fn warning(area: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(area, text) }
    }

    /// Something that does not work.
    pub(super) fn problem(area: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(area, text) }
    }

    /// Says what can be done about it.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({ "area": self.area, "level": self.level.word(), "text": safe(&self.text), "advice": self.advice.as_deref().map(safe) })
    }
}

/// All findings for people, part by part, and how many of which sort there are.
pub(crate) fn readable(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            area = finding.area;
            text.push_str(&format!("{area}\n"));
        }
        text.push_str(&format!("  {:<8} {}\n", finding.level.word(), safe(&finding.text)));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("           {}\n", safe(advice)));
        }
    }
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    text.push_str(&format!("\nproblems: {problems}, warnings: {warnings}\n"));
    text
}

/// Paths and names in it may be anybody's; one line.
fn safe(text: &str) -> String {
    safe_text(text.as_bytes(), Colours::Strip).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_together_by_area() {
        let findings = [
            Finding::ok("Store", "it is there"),
            Finding::problem("Store", "it is\u{1b}[2J full").advise("collect garbage"),
            Finding::warning("Clock", "it is late"),
        ];
        let expected = "Store\n  ok       it is there\n  problem  it is full\n           collect garbage\nClock\n  \
            warning  it is late\n\nproblems: 1, warnings: 1\n";
        assert_eq!(readable(&findings), expected);
        assert_eq!(findings[1].json()["advice"], "collect garbage");
        assert_eq!(findings[2].json()["advice"], Value::Null);
    }
}
