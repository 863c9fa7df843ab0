//! Machines for remote builds: the value of the setting `builders`, and the files that it names with `@`.
//!
//! Entries are separated by newlines or `;`. Each has up to eight columns, separated by blanks, of which only the first is
//! needed; `-` stands for the default. A `#` begins a comment that goes to the end of the line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::nix_conf::{Source, SourceError};

/// How many files may name each other with `@`.
const MAX_DEPTH: usize = 16;

/// How many entries there may be in all.
const MAX_ENTRIES: usize = 10_000;

/// A machine that builds can be sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteMachine {
    /// The URL of its store.
    pub store_url: String,
    /// The platforms that it builds for.
    pub systems: BTreeSet<String>,
    /// The file of the private key to log in with.
    pub ssh_key: Option<PathBuf>,
    /// How many builds it may have at once.
    pub max_jobs: u64,
    /// How fast it is, compared with others; more than 0.
    pub speed_factor: f64,
    /// Features that it has, those in `mandatory_features` among them.
    pub supported_features: BTreeSet<String>,
    /// Features of which each derivation that is sent there must require all.
    pub mandatory_features: BTreeSet<String>,
    /// Its public host key, in base64.
    pub ssh_public_host_key: Option<String>,
}

/// Why a list of machines can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachinesError {
    /// A number that is none.
    #[error("bad machine specification: failed to convert column #{column} in a row: '{row}' to '{wanted}'")]
    Number {
        /// The column, counted from 0.
        column: usize,
        /// The entry.
        row: String,
        /// The kind of number.
        wanted: &'static str,
    },
    /// A speed below 0.
    #[error("bad machine specification: speed factor must be >= 0 in a row: '{0}'")]
    NegativeSpeed(String),
    /// A host key that isn't base64.
    #[error("bad machine specification: column #7 in a row: '{0}' is not valid base64 encoded data")]
    HostKey(String),
    /// Files that name each other without end.
    #[error("machines file '{}' is named too deep: expected at most {MAX_DEPTH} files naming each other", .0.display())]
    TooDeep(PathBuf),
    /// Too many entries.
    #[error("too many machines: expected at most {MAX_ENTRIES} entries")]
    TooMany,
    /// A file that can't be read.
    #[error("cannot read machines file '{}': {reason}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: SourceError,
    },
}

/// The machines of a `builders` value. `system` is the platform of machines that don't name theirs; files come from
/// `source`, and those that aren't there count as empty.
pub fn parse_machines(
    builders: &str,
    system: &str,
    source: &dyn Source,
) -> Result<Vec<RemoteMachine>, MachinesError> {
    let mut machines = Vec::new();
    let mut seen = 0;
    // What is still to be read, the next last, each with the number of files that it is in.
    let mut pending: Vec<(String, usize)> = entries(builders, 0);
    while let Some((entry, depth)) = pending.pop() {
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(MachinesError::TooMany);
        }
        let Some(file) = entry.strip_prefix('@') else {
            machines.push(parse_entry(&entry, system)?);
            continue;
        };
        let file = Path::new(file.trim());
        if depth >= MAX_DEPTH {
            return Err(MachinesError::TooDeep(file.to_owned()));
        }
        let contents =
            source.read(file).map_err(|reason| MachinesError::Read { file: file.to_owned(), reason })?;
        pending.extend(entries(&String::from_utf8_lossy(&contents.unwrap_or_default()), depth + 1));
        if pending.len() > MAX_ENTRIES {
            return Err(MachinesError::TooMany);
        }
    }
    Ok(machines)
}

/// The entries of a text that aren't empty, last first.
fn entries(text: &str, depth: usize) -> Vec<(String, usize)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let entries = lines.flat_map(|line| line.split(';')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut entries: Vec<(String, usize)> = entries.map(|entry| (entry.to_owned(), depth)).collect();
    entries.reverse();
    entries
}

fn parse_entry(row: &str, system: &str) -> Result<RemoteMachine, MachinesError> {
    let mut columns = row.split_ascii_whitespace();
    let mut column = || columns.next().filter(|text| *text != "-");
    let store_url = store_url(column().unwrap_or("-"));
    let systems = column().map_or_else(|| BTreeSet::from([system.to_owned()]), comma_list);
    let ssh_key = column().map(PathBuf::from);
    let number = |column, wanted| MachinesError::Number { column, row: row.to_owned(), wanted };
    let max_jobs = match column() {
        Some(text) => text.parse().map_err(|_| number(3, "unsigned int"))?,
        None => 1,
    };
    let speed_factor: f64 = match column() {
        Some(text) => text.parse().map_err(|_| number(4, "float"))?,
        None => 1.0,
    };
    if !speed_factor.is_finite() {
        return Err(number(4, "float"));
    }
    if speed_factor < 0.0 {
        return Err(MachinesError::NegativeSpeed(row.to_owned()));
    }
    let mut supported_features = column().map(comma_list).unwrap_or_default();
    let mandatory_features = column().map(comma_list).unwrap_or_default();
    supported_features.extend(mandatory_features.iter().cloned());
    let ssh_public_host_key = column().map(str::to_owned);
    if ssh_public_host_key.as_deref().is_some_and(|key| !is_base64(key)) {
        return Err(MachinesError::HostKey(row.to_owned()));
    }
    Ok(RemoteMachine {
        store_url,
        systems,
        ssh_key,
        max_jobs,
        speed_factor: if speed_factor == 0.0 { 1.0 } else { speed_factor },
        supported_features,
        mandatory_features,
        ssh_public_host_key,
    })
}

/// The URL of a machine's store: a bare host name is reached by ssh.
fn store_url(text: &str) -> String {
    let base = text.split('?').next().unwrap_or(text);
    let is_store = text.contains("://") || text.contains('/') || matches!(base, "auto" | "daemon" | "local");
    if is_store { text.to_owned() } else { format!("ssh://{text}") }
}

fn comma_list(text: &str) -> BTreeSet<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    text.len() - data.len() <= 2 && !data.is_empty() && data.len() % 4 != 1 && data.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn parse(builders: &str) -> Result<Vec<RemoteMachine>, MachinesError> {
        let source = |path: &Path| {
            let contents: Option<&[u8]> = match path.to_str() {
                Some("/etc/nix/machines") => Some(b"one # comment; two\nthree;@/more;five"),
                Some("/more") => Some(b"four\n\n;;"),
                Some("/self") => Some(b"@/self"),
                Some("/double") => Some(b"@/double;@/double"),
                _ => None,
            };
            Ok(contents.map(<[u8]>::to_vec))
        };
        parse_machines(builders, "x86_64-linux", &source)
    }

    #[test]
    fn all_columns() {
        let row = "ssh-ng://b@host i686-linux,x86_64-linux /key 8 2.5 kvm,big-parallel benchmark c3NoLWVkMjU1MTk= rest";
        assert_eq!(
            parse(row),
            Ok(vec![RemoteMachine {
                store_url: "ssh-ng://b@host".into(),
                systems: set(&["i686-linux", "x86_64-linux"]),
                ssh_key: Some("/key".into()),
                max_jobs: 8,
                speed_factor: 2.5,
                supported_features: set(&["benchmark", "big-parallel", "kvm"]),
                mandatory_features: set(&["benchmark"]),
                ssh_public_host_key: Some("c3NoLWVkMjU1MTk=".into()),
            }])
        );
    }

    #[test]
    fn defaults() {
        let plain = parse("host").unwrap();
        assert_eq!(plain, parse("ssh://host - - - - - - -").unwrap());
        assert_eq!(plain, parse("host - - 1 0").unwrap());
        assert_eq!((plain[0].max_jobs, plain[0].speed_factor), (1, 1.0));
        assert_eq!(plain[0].systems, set(&["x86_64-linux"]));
    }

    #[test]
    fn urls() {
        for (text, url) in [
            ("host", "ssh://host"),
            ("user@host", "ssh://user@host"),
            ("daemon", "daemon"),
            ("local?root=/x", "local?root=/x"),
            ("/mnt", "/mnt"),
            ("ssh://host", "ssh://host"),
        ] {
            assert_eq!(parse(text).unwrap()[0].store_url, url);
        }
    }

    #[test]
    fn files_and_order() {
        let hosts = |builders: &str| -> Vec<String> {
            parse(builders)
                .unwrap()
                .into_iter()
                .map(|machine| machine.store_url.replace("ssh://", ""))
                .collect()
        };
        assert_eq!(hosts("zero; @/etc/nix/machines\nsix"), ["zero", "one", "three", "four", "five", "six"]);
        assert!(hosts("@/missing").is_empty());
        assert!(hosts("").is_empty());
    }

    #[test]
    fn errors() {
        let error = |builders: &str| parse(builders).unwrap_err().to_string();
        assert_eq!(
            error("h - - many"),
            "bad machine specification: failed to convert column #3 in a row: 'h - - many' to 'unsigned int'"
        );
        assert!(error("h - - 1 fast").ends_with("to 'float'"));
        assert!(error("h - - 1 NaN").ends_with("to 'float'"));
        assert!(error("h - - 1 -1").contains("speed factor must be >= 0"));
        assert!(error("h - - - - - - !").contains("not valid base64"));
        assert_eq!(parse("@/self"), Err(MachinesError::TooDeep("/self".into())));
        assert!(parse("@/double").is_err());
        assert_eq!(parse(&"h;".repeat(MAX_ENTRIES + 1)), Err(MachinesError::TooMany));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([ -~é\n]|@/self|@/double|;){0,60}") {
            if let Ok(machines) = parse(&text) {
                prop_assert!(machines.iter().all(|machine| machine.speed_factor > 0.0));
            }
        }
    }
}
