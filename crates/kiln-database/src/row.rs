//! From rows of `ValidPaths` to path info and back.

use kiln_hash::{Hash, Sha256};
use kiln_narinfo::{PathInfo, SignatureSet};
use kiln_store_path::{StoreDir, StorePath};
use rusqlite::Row;

use crate::error::{Error, Result};

/// Columns that [`RawRow::read`] expects, in this order; the first one is for telling rows of different paths apart.
pub(crate) const COLUMNS: &str =
    "v.id, v.path, v.hash, v.registrationTime, v.deriver, v.narSize, v.ultimate, v.sigs, v.ca";

/// How many columns that are.
pub(crate) const COLUMN_COUNT: usize = 9;

/// A row as SQLite gives it.
pub(crate) struct RawRow {
    path: String,
    hash: String,
    registration_time: i64,
    deriver: Option<String>,
    nar_size: Option<i64>,
    ultimate: Option<i64>,
    signatures: Option<String>,
    content_address: Option<String>,
}

impl RawRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            path: row.get(1)?,
            hash: row.get(2)?,
            registration_time: row.get(3)?,
            deriver: row.get(4)?,
            nar_size: row.get(5)?,
            ultimate: row.get(6)?,
            signatures: row.get(7)?,
            content_address: row.get(8)?,
        })
    }

    /// The path info, still without references.
    pub(crate) fn decode(self, store_dir: &StoreDir) -> Result<PathInfo> {
        let value_error =
            |column, detail: String| Error::Value { column, subject: self.path.clone(), detail };
        let hash = Hash::parse_prefixed(&self.hash)
            .map_err(|error| value_error("ValidPaths.hash", error.to_string()))?;
        let nar_hash = hash.as_sha256().ok_or_else(|| {
            value_error("ValidPaths.hash", format!("expected sha256, found {}", hash.algorithm()))
        })?;
        let deriver = self
            .deriver
            .as_deref()
            .filter(|deriver| !deriver.is_empty())
            .map(|deriver| decode_path(store_dir, "ValidPaths.deriver", deriver))
            .transpose()?;
        let content_address = self
            .content_address
            .as_deref()
            .filter(|address| !address.is_empty())
            .map(|address| address.parse().map_err(|error| value_error("ValidPaths.ca", format!("{error}"))))
            .transpose()?;
        Ok(PathInfo {
            path: decode_path(store_dir, "ValidPaths.path", &self.path)?,
            nar_hash,
            nar_size: u64::try_from(self.nar_size.unwrap_or(0)).unwrap_or(0),
            references: std::collections::BTreeSet::new(),
            deriver,
            registration_time: u64::try_from(self.registration_time).unwrap_or(0),
            ultimate: self.ultimate.is_some_and(|ultimate| ultimate == 1),
            signatures: self.signatures.as_deref().map(SignatureSet::from_separated).unwrap_or_default(),
            content_address,
        })
    }
}

/// Reads a full path from a column.
pub(crate) fn decode_path(store_dir: &StoreDir, column: &'static str, text: &str) -> Result<StorePath> {
    store_dir.parse(text).map_err(|error| Error::Value {
        column,
        subject: text.chars().take(320).collect(),
        detail: error.to_string(),
    })
}

/// The column `hash`.
pub(crate) fn encode_hash(hash: &Sha256) -> String {
    Hash::from(*hash).prefixed_base16()
}

/// The column `narSize`: NULL if not known.
pub(crate) fn encode_size(size: u64) -> Option<i64> {
    i64::try_from(size).ok().filter(|size| *size > 0)
}

/// The column `sigs`: NULL if there are none.
pub(crate) fn encode_signatures(signatures: &SignatureSet) -> Option<String> {
    (!signatures.is_empty()).then(|| signatures.to_separated())
}

/// Full paths as a JSON array, which is how a list becomes one bound parameter.
pub(crate) fn encode_paths(store_dir: &StoreDir, paths: &[StorePath]) -> String {
    let mut directory = serde_json::Value::from(store_dir.as_str()).to_string();
    // The closing quote comes after the base name, which needs no escaping.
    directory.pop();
    let mut list = String::with_capacity(2 + paths.len() * (directory.len() + 64));
    list.push('[');
    for (index, path) in paths.iter().enumerate() {
        if index > 0 {
            list.push(',');
        }
        list.push_str(&directory);
        list.push('/');
        list.push_str(path.base_name());
        list.push('"');
    }
    list.push(']');
    list
}
