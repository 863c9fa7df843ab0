//! The descriptions of closures that `exportReferencesGraph` gives to builders.

use std::collections::BTreeSet;

use kiln_hash::Hash;
use kiln_store_path::{ContentAddress, StoreDir, StorePath};
use serde_json::{Map, Value, json};

/// One path of a closure that a builder wants described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphMember {
    /// The path.
    pub path: StorePath,
    /// The hash of its NAR.
    pub nar_hash: Hash,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
    /// The sum of the NAR sizes of its closure in bytes.
    pub closure_size: u64,
    /// What it refers to, itself included if it does.
    pub references: BTreeSet<StorePath>,
    /// Its content address, if it has one.
    pub address: Option<ContentAddress>,
}

/// The members in the order of their paths.
fn sorted(members: &[GraphMember]) -> Vec<&GraphMember> {
    let mut members: Vec<&GraphMember> = members.iter().collect();
    members.sort_by(|left, right| left.path.cmp(&right.path));
    members
}

/// The file for a builder without structured attributes: the registration text of the members, sorted by path, without
/// hashes and derivers (`nix-store --register-validity`).
pub fn registration_text(store_dir: &StoreDir, members: &[GraphMember]) -> Vec<u8> {
    let mut text = String::new();
    for member in sorted(members) {
        text.push_str(&format!("{}\n\n{}\n", store_dir.display(&member.path), member.references.len()));
        for reference in &member.references {
            text.push_str(&format!("{}\n", store_dir.display(reference)));
        }
    }
    text.into_bytes()
}

/// The value for a builder with structured attributes: an array of objects, sorted by path.
pub fn graph_json(store_dir: &StoreDir, members: &[GraphMember]) -> Value {
    let describe = |member: &GraphMember| {
        let references: Vec<Value> =
            member.references.iter().map(|path| store_dir.print(path).into()).collect();
        let mut object = Map::new();
        if let Some(address) = &member.address {
            object.insert("ca".into(), address.to_string().into());
        }
        object.insert("closureSize".into(), member.closure_size.into());
        object.insert("narHash".into(), member.nar_hash.prefixed_nix32().into());
        object.insert("narSize".into(), member.nar_size.into());
        object.insert("path".into(), store_dir.print(&member.path).into());
        object.insert("references".into(), references.into());
        object.insert("valid".into(), json!(true));
        Value::Object(object)
    };
    sorted(members).into_iter().map(describe).collect()
}
