//! How the contents of a file differ.

use crate::byte_string::ByteString;
use crate::integers::hex;
use crate::pair::{Pair, Side};
use serde::{Serialize, Serializer};

/// How the contents of a file differ.
///
/// As JSON:
///
/// ```text
/// {
///   "sizes": {"a": 230, "b": 230},
///   "first-difference": 24, "differing-bytes": 2, "regions": 1, "compared": 230, "not-compared": 0,
///   "context": {"offset": 16, "a": "666f6f…", "b": "666f6f…"},
///   "findings": [
///     {"path": ["foo.o"], "what": "part", "format": "ar",
///      "fields": [{"name": "modification-time", "values": {"a": "2024-…", "b": "2024-…"}}], "contents": {"state": "same"}}
///   ],
///   "findings-omitted": 0
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContentDifference {
    /// Lengths in bytes.
    pub sizes: Pair<u64>,
    /// Offset of the first byte that differs or that one side only has.
    pub first_difference: u64,
    /// How many bytes differ, of those that both sides have and that were compared.
    pub differing_bytes: u64,
    /// How many stretches of differing bytes there are; fewer than eight equal bytes between two don't part them.
    pub regions: u64,
    /// How many bytes of both sides were compared, from the start on.
    pub compared: u64,
    /// How many more both sides have, which a limit kept from being compared.
    pub not_compared: u64,
    /// The bytes around the first difference.
    pub context: Context,
    /// What was recognised.
    pub findings: Vec<Finding>,
    /// How many more findings there were, not counting what looking into these would have found.
    pub findings_omitted: u64,
}

/// Bytes of both sides from the same offset on; as JSON, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// Where they are.
    pub offset: u64,
    /// The bytes of the first; fewer where it ends.
    #[serde(serialize_with = "as_hex")]
    pub a: Vec<u8>,
    /// The bytes of the second.
    #[serde(serialize_with = "as_hex")]
    pub b: Vec<u8>,
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// Something that was recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Where in the file: the name of a part, in it of another one, and so on. Empty for the file itself.
    pub path: Vec<ByteString>,
    /// What.
    #[serde(flatten)]
    pub observation: Observation,
}

/// What was recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Observation {
    /// A part of a known format differs: the member of an archive, the section of a program. With the empty path, or
    /// that of what has the format, the header.
    Part {
        /// The format that has such parts.
        format: Format,
        /// What its header tells that differs; also what is known of contents like a build-id.
        fields: Vec<Field>,
        /// Whether its contents differ, too.
        contents: PartContents,
    },
    /// A part is on one side only.
    PartOnlyIn {
        /// The format that has such parts.
        format: Format,
        /// On which side.
        side: Side,
    },
    /// Parts that are on both sides have another order.
    PartsReordered {
        /// The format that has such parts.
        format: Format,
    },
    /// The first line that differs.
    Line {
        /// Which it is, from 1 on.
        number: u64,
        /// The lines, without their ends. Of a long one the surroundings of the first difference; `…` is where it was cut.
        lines: Pair<ByteString>,
    },
    /// All lines are on both sides, in another order.
    LinesReordered {
        /// How many lines there are.
        lines: u64,
    },
    /// Text at the first difference that is known to change from build to build.
    Trace {
        /// What it is.
        trace: Trace,
        /// The texts.
        values: Pair<ByteString>,
    },
    /// Some of it wasn't looked at: there were too many parts or too much to read, it is damaged, or reading failed.
    NotExamined,
}

/// A format whose parts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Archives of `ar`: static libraries, Debian packages.
    Ar,
    /// Programs, libraries and objects.
    Elf,
    /// What `gzip` compressed.
    Gzip,
    /// Python bytecode.
    Pyc,
    /// Archives of `tar`.
    Tar,
    /// Zip archives: also jars, wheels, office documents.
    Zip,
}

/// A field of a header, or a fact known from contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// Its values; nothing where it isn't there.
    pub values: Pair<Option<ByteString>>,
}

/// Whether the contents of a part differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum PartContents {
    /// They don't, or there are none.
    Same,
    /// They do.
    Differ {
        /// Their lengths in bytes.
        sizes: Pair<u64>,
        /// Offset in the part of the first byte that differs.
        first_difference: u64,
    },
    /// That isn't known, as a limit was reached.
    NotCompared {
        /// Their lengths in bytes.
        sizes: Pair<u64>,
    },
}

/// What is known to change from build to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trace {
    /// A date, a time, or seconds or milliseconds since 1970.
    Timestamp,
    /// A path below a directory where builds run.
    BuildPath,
    /// Paths in a store with the same name and other hashes.
    StorePath,
    /// A UUID.
    Uuid,
    /// Other hexadecimal digits.
    Hexadecimal,
}
