//! The references of a path as a tree of lines.

use std::collections::BTreeSet;

use kiln_store::references_first;
use kiln_store_path::{StoreDir, StorePath};

use super::Infos;

/// Trees that were drawn: what is in one of them is not drawn below a path again.
#[derive(Default)]
pub(super) struct Tree {
    drawn: BTreeSet<StorePath>,
}

/// A line to come.
struct Line {
    path: StorePath,
    /// What stands before the path.
    branch: String,
    /// What stands before the lines below it.
    indent: String,
}

impl Tree {
    /// The tree of a path whose closure is `infos`. References come before what refers to them, which keeps it flat.
    pub(super) fn draw(&mut self, path: &StorePath, infos: &Infos, store_dir: &StoreDir) -> String {
        let mut text = String::new();
        let mut open = vec![Line { path: path.clone(), branch: String::new(), indent: String::new() }];
        while let Some(Line { path, branch, indent }) = open.pop() {
            text.push_str(&branch);
            text.push_str(&store_dir.print(&path));
            if !self.drawn.insert(path.clone()) {
                text.push_str(" [...]\n");
                continue;
            }
            text.push('\n');
            let Some(info) = infos.get(&path) else { continue };
            let sorted = references_first(&info.references, |path| {
                infos.get(path).into_iter().flat_map(|info| &info.references)
            });
            for (number, path) in sorted.into_iter().rev().enumerate() {
                let (branch, below) =
                    if number == 0 { ("└───", "    ") } else { ("├───", "│   ") };
                open.push(Line {
                    path,
                    branch: format!("{indent}{branch}"),
                    indent: format!("{indent}{below}"),
                });
            }
        }
        text
    }
}
