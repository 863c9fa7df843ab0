//! The formats of `--log-format`.

use std::fmt;
use std::str::FromStr;

/// How events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Status lines on a terminal, plain lines elsewhere.
    Bar,
    /// The same with the logs of builds, each line with the name of its build.
    BarWithLogs,
    /// Plain lines.
    Raw,
    /// Plain lines with the logs of builds as they are.
    RawWithLogs,
    /// JSON records for other programs.
    InternalJson,
}

impl LogFormat {
    const ALL: [(LogFormat, &'static str); 5] = [
        (LogFormat::Bar, "bar"),
        (LogFormat::BarWithLogs, "bar-with-logs"),
        (LogFormat::Raw, "raw"),
        (LogFormat::RawWithLogs, "raw-with-logs"),
        (LogFormat::InternalJson, "internal-json"),
    ];

    /// Whether this format draws status lines where there is a terminal.
    #[must_use]
    pub fn has_status(self) -> bool {
        matches!(self, LogFormat::Bar | LogFormat::BarWithLogs)
    }

    /// Whether people read logs of builds in this format as they come, so that errors need not repeat their end.
    #[must_use]
    pub fn shows_logs(self) -> bool {
        matches!(self, LogFormat::BarWithLogs | LogFormat::RawWithLogs)
    }

    /// This format with the logs of builds (`--print-build-logs`).
    #[must_use]
    pub fn with_logs(self) -> LogFormat {
        match self {
            LogFormat::Bar => LogFormat::BarWithLogs,
            LogFormat::Raw => LogFormat::RawWithLogs,
            other => other,
        }
    }
}

/// A name that no log format has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLogFormat(pub String);

impl fmt::Display for UnknownLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = LogFormat::ALL.map(|(_, name)| name).join(", ");
        write!(f, "option 'log-format' has an invalid value '{}': expected one of {names}", self.0)
    }
}

impl std::error::Error for UnknownLogFormat {}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<LogFormat, UnknownLogFormat> {
        let found = LogFormat::ALL.iter().find(|(_, candidate)| *candidate == name);
        found.map(|(format, _)| *format).ok_or_else(|| UnknownLogFormat(name.to_owned()))
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = LogFormat::ALL.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nix() {
        for (format, name) in LogFormat::ALL {
            assert_eq!(name.parse(), Ok(format));
            assert_eq!(format.to_string(), name);
        }
        let error = "json".parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.starts_with("option 'log-format' has an invalid value 'json'"), "{error}");
    }

    #[test]
    fn logs_can_be_added() {
        for (format, _) in LogFormat::ALL {
            assert_eq!(format.with_logs().shows_logs(), format != LogFormat::InternalJson);
            assert_eq!(format.with_logs().has_status(), format.has_status());
        }
    }
}
