//! Every mistake in a recipe has a message that shows where it is and, where possible, what to do about it.
//!
//! Each `tests/data/messages/NAME.toml` is a recipe with a mistake, and `NAME.txt` is what is said about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kiln_recipe::Recipe;

#[test]
fn messages_are_those_on_record() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/messages");
    let names: BTreeSet<String> = fs::read_dir(&directory)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    let mut wrong = Vec::new();
    for name in &names {
        let text = fs::read(directory.join(format!("{name}.toml"))).unwrap();
        let said = match Recipe::parse("kiln.toml", &text) {
            Ok(_) => "there is no mistake".to_owned(),
            Err(error) => error.to_string(),
        };
        let expected = fs::read_to_string(directory.join(format!("{name}.txt"))).unwrap_or_default();
        if format!("{said}\n") != expected {
            wrong.push(format!("==> {name}\n{said}\n--- not\n{expected}"));
        }
    }
    assert!(names.len() > 40, "the recipes are there");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
