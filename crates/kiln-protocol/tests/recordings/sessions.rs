//! The sessions in an archive.

use std::collections::BTreeMap;

use kiln_nar::{Decoder, Event};

/// All that was said in one connection.
pub(crate) struct Session {
    /// Folder and name.
    pub(crate) name: String,
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_server: Vec<u8>,
}

pub(crate) fn read(archive: &[u8]) -> Vec<Session> {
    let mut files = files(archive);
    let names: Vec<String> =
        files.keys().filter_map(|name| name.strip_suffix(".c2s").map(str::to_owned)).collect();
    let sessions: Vec<Session> = names
        .into_iter()
        .map(|name| Session {
            from_client: files.remove(&format!("{name}.c2s")).unwrap(),
            from_server: files.remove(&format!("{name}.s2c")).unwrap(),
            name,
        })
        .collect();
    assert!(files.is_empty(), "sessions come in pairs of files");
    sessions
}

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut way: Vec<String> = Vec::new();
    let mut open_directories = 0;
    let mut decoder = Decoder::new();
    let mut input = archive;
    while let Some(event) = decoder.next(&mut input).expect("an archive") {
        match event {
            Event::Directory => open_directories += 1,
            Event::EndDirectory => open_directories -= 1,
            Event::Entry(name) => {
                way.truncate(open_directories - 1);
                way.push(String::from_utf8(name.to_vec()).unwrap());
            }
            Event::Regular { .. } => {
                files.insert(way.join("/"), Vec::new());
            }
            Event::Contents(bytes) => files.get_mut(&way.join("/")).unwrap().extend_from_slice(bytes),
            Event::EndRegular => {}
            Event::Symlink(_) => panic!("no links in recordings"),
        }
    }
    decoder.finish().expect("a whole archive");
    files
}
