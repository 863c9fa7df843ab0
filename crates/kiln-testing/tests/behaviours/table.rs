//! The page `docs/behaviours.md`.

use std::fmt::Write as _;

use crate::HOW_TO_WRITE;
use crate::list::{Behaviour, GROUPS, Group, State};
use crate::sources::Test;

const HEAD: &str = "\
What a build engine must do so that its users, and Nix, find what they expect: each behaviour with the tests that prove it. A
test names what it proves by how its name begins.";

/// The page, in Markdown.
pub(crate) fn page(tests: &[Test]) -> String {
    let mut page = format!("# Behaviours\n\n{HEAD}\n\n");
    let _ = writeln!(
        page,
        "This page is made of the tests and of the list in `crates/kiln-testing/tests/behaviours/list.rs`, by\n\
         `{HOW_TO_WRITE}`; the same test without the variable\n\
         fails if the page is out of date, if something that is there has no test, or if a test names what is not listed.\n"
    );
    overview(&mut page);
    for group in GROUPS {
        let _ = write!(
            page,
            "\n## {}. {}\n\n| | behaviour | proved by |\n| --- | --- | --- |\n",
            group.letter, group.title
        );
        for behaviour in group.behaviours {
            rows(&mut page, behaviour, tests);
        }
    }
    page
}

/// How many behaviours of each group are there.
fn overview(page: &mut String) {
    page.push_str("| | group | there | in part |\n| --- | --- | --- | --- |\n");
    let mut sums = [0; 2];
    for group in GROUPS {
        let counts = counts(group);
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            group.letter,
            group.title,
            counts.map(|count| count.to_string()).join(" | ")
        );
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let _ = writeln!(page, "| | all | {} |", sums.map(|sum| sum.to_string()).join(" | "));
}

/// How many behaviours are there, and how many in part.
fn counts(group: &Group) -> [usize; 2] {
    let count =
        |is: fn(&State) -> bool| group.behaviours.iter().filter(|behaviour| is(&behaviour.state)).count();
    [count(|state| matches!(state, State::Whole)), count(|state| matches!(state, State::Part(_)))]
}

/// A behaviour, with a row for each file with tests of it, so that changes of the page are small.
fn rows(page: &mut String, behaviour: &Behaviour, tests: &[Test]) {
    let mut cells = Vec::new();
    match behaviour.state {
        State::Whole => {}
        State::Part(lacks) => cells.push(format!("*lacks:* {lacks}")),
    }
    let tests: Vec<&Test> = tests.iter().filter(|test| test.proves(behaviour.id)).collect();
    for of_file in tests.chunk_by(|one, other| one.file == other.file) {
        let names: Vec<String> = of_file.iter().map(|test| format!("`{}`", test.name)).collect();
        let file = &of_file[0].file;
        let short = file.strip_prefix("crates/").unwrap_or(file);
        cells.push(format!("[{short}](../{file}): {}", names.join(", ")));
    }
    let (mut id, mut what) = (format!("**{}**", behaviour.id), behaviour.what);
    for cell in cells {
        let _ = writeln!(page, "| {id} | {what} | {cell} |");
        id.clear();
        what = "";
    }
}
