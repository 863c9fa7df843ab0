//! The value of `max-jobs`.

use serde_json::{Value, json};

use crate::value::{Kind, SettingValue, ValueError};

/// How many builds run here at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxJobs {
    /// As many as there are processors.
    Auto,
    /// This many; 0 is none.
    Count(u64),
}

impl MaxJobs {
    /// The number of builds on a machine with so many processors.
    #[must_use]
    pub fn resolve(self, cpus: u64) -> u64 {
        match self {
            MaxJobs::Auto => cpus.max(1),
            MaxJobs::Count(count) => count,
        }
    }
}

impl SettingValue for MaxJobs {
    const KIND: Kind = Kind::Jobs;

    fn parse(text: &str) -> Result<MaxJobs, ValueError> {
        if text == "auto" {
            return Ok(MaxJobs::Auto);
        }
        text.parse().map(MaxJobs::Count).map_err(|_| ValueError::expected("'auto' or a number"))
    }

    fn render(&self) -> String {
        match self {
            MaxJobs::Auto => "auto".to_owned(),
            MaxJobs::Count(count) => count.to_string(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            MaxJobs::Auto => json!("auto"),
            MaxJobs::Count(count) => json!(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_or_a_number() {
        assert_eq!(MaxJobs::parse("auto"), Ok(MaxJobs::Auto));
        assert_eq!(MaxJobs::parse("0"), Ok(MaxJobs::Count(0)));
        for text in ["", "-1", "Auto", "1K", "18446744073709551616"] {
            assert!(MaxJobs::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(MaxJobs::Auto.resolve(8), 8);
        assert_eq!(MaxJobs::Auto.resolve(0), 1);
        assert_eq!(MaxJobs::Count(0).resolve(8), 0);
        for value in [MaxJobs::Auto, MaxJobs::Count(7)] {
            assert_eq!(MaxJobs::parse(&value.render()), Ok(value));
        }
    }
}
