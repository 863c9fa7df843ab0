//! The descriptions of closures that `exportReferencesGraph` gives to builders.

use kiln_narinfo::PathInfo;
use kiln_narinfo::registration::{self, Entry, Form};
use kiln_store_path::StoreDir;
use serde_json::{Map, Value};

/// One path of a closure that a builder wants described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphMember {
    /// What the store knows about it.
    pub info: PathInfo,
    /// The sum of the NAR sizes of its closure in bytes.
    pub closure_size: u64,
}

/// The members in the order of their paths.
fn sorted(members: &[GraphMember]) -> Vec<&GraphMember> {
    let mut members: Vec<&GraphMember> = members.iter().collect();
    members.sort_by(|left, right| left.info.path.cmp(&right.info.path));
    members
}

/// The file for a builder without structured attributes: the registration text of the members, sorted by path, without
/// hashes and derivers.
pub(crate) fn graph_text(store_dir: &StoreDir, members: &[GraphMember]) -> Vec<u8> {
    let mut text = String::new();
    for member in sorted(members) {
        registration::write(store_dir, &Entry::of(&member.info, Form::WithoutHashes, false), &mut text);
    }
    text.into_bytes()
}

/// The value for a builder with structured attributes: an array of objects, sorted by path.
pub(crate) fn graph_json(store_dir: &StoreDir, members: &[GraphMember]) -> Value {
    let describe = |member: &GraphMember| {
        let info = &member.info;
        let references: Vec<Value> =
            info.references.iter().map(|path| store_dir.print(path).into()).collect();
        let mut object = Map::new();
        if let Some(address) = &info.content_address {
            object.insert("ca".into(), address.to_string().into());
        }
        object.insert("closureSize".into(), member.closure_size.into());
        object.insert("narHash".into(), format!("sha256:{}", info.nar_hash.nix32()).into());
        object.insert("narSize".into(), info.nar_size.into());
        object.insert("path".into(), store_dir.print(&info.path).into());
        object.insert("references".into(), references.into());
        object.insert("valid".into(), true.into());
        Value::Object(object)
    };
    sorted(members).into_iter().map(describe).collect()
}
