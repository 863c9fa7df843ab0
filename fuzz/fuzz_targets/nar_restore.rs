//! Archives as trees of files: what can be restored gives the same archive when it is dumped, and nothing is left beside
//! it.

#![no_main]

use kiln_fs::{Component, Directory, RestoreOptions, delete_tree, dump, restore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let scratch = tempfile::tempdir().expect("there is room for temporary files");
    let directory = Directory::open(scratch.path()).expect("it has just been made");
    let name = Component::new("tree").expect("the name is valid");
    let mut source = data;
    let restored = restore(&directory, &name, &mut source, RestoreOptions::default(), &mut ());
    if let Ok(digest) = restored {
        let mut dumped = Vec::new();
        let size = dump(&directory, &name, &mut dumped).expect("it has just been restored");
        assert_eq!((size, Some(dumped.as_slice())), (digest.size, data.get(..dumped.len())));
    }
    let entries = scratch.path().read_dir().expect("it is a directory");
    assert!(entries.flatten().all(|entry| entry.file_name() == "tree"));
    delete_tree(&directory, &name).expect("all of it is ours");
});
