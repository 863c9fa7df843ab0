//! The files of a path, as its page shows them.

use std::io;

use kiln_nar::Event;
use kiln_store::LocalStore;
use kiln_store_path::StorePath;

use super::html::Html;

/// So many are shown: who wants all of them takes the listing.
const MOST: usize = 500;

/// Files with names as they are; not every one need be text.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: Vec<File>,
    has_more: bool,
    failure: Option<String>,
}

#[derive(Debug)]
struct File {
    /// Where it is, from the path on; empty for the path itself.
    name: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Directory,
    Regular { executable: bool, size: u64 },
    Symlink(String),
}

impl Contents {
    /// Looks through a path; blocks.
    pub(super) fn of(store: &LocalStore, path: &StorePath) -> Self {
        let mut contents = Self::default();
        let mut names: Vec<String> = Vec::new();
        let name = match LocalStore::component(path) {
            Ok(name) => name,
            Err(error) => return Self { failure: Some(error.to_string()), ..contents },
        };
        let told = kiln_fs::outline(store.directory(), &name, &mut |event| {
            let what = match event {
                Event::Entry(name) => {
                    names.push(String::from_utf8_lossy(name).into_owned());
                    return Ok(());
                }
                Event::Directory => What::Directory,
                Event::Regular { executable, size, .. } => What::Regular { executable, size },
                Event::Symlink(target) => What::Symlink(String::from_utf8_lossy(target).into_owned()),
                Event::EndDirectory | Event::EndRegular => {
                    names.pop();
                    return Ok(());
                }
                Event::Contents(_) => return Ok(()),
            };
            if contents.files.len() == MOST {
                contents.has_more = true;
                return Err(io::Error::other("enough"));
            }
            let is_symlink = matches!(what, What::Symlink(_));
            contents.files.push(File { name: names.join("/"), what });
            if is_symlink {
                names.pop();
            }
            Ok(())
        });
        if let Err(error) = told
            && !contents.has_more
        {
            contents.failure = Some(error.to_string());
        }
        contents
    }

    /// Writes the table of them.
    pub(super) fn write(&self, page: &mut Html) {
        page.heading(2, "Contents");
        page.open("table").open("thead").open("tr");
        for heading in ["Name", "Kind", "Bytes"] {
            page.element("th", heading);
        }
        page.close("tr").close("thead").open("tbody");
        for File { name, what } in &self.files {
            let name = if name.is_empty() { "." } else { name };
            page.open("tr").open("td").element("code", name).close("td");
            match what {
                What::Directory => page.element("td", "directory").element("td", ""),
                What::Regular { executable, size } => {
                    let kind = if *executable { "executable file" } else { "file" };
                    page.element("td", kind).element("td", &size.to_string())
                }
                What::Symlink(target) => {
                    page.open("td").text("link to ").element("code", target).close("td").element("td", "")
                }
            };
            page.close("tr");
        }
        page.close("tbody").close("table");
        if self.has_more {
            page.element("p", &format!("These are the first {MOST}; the listing has all."));
        }
        if let Some(failure) = &self.failure {
            page.element("p", &format!("The files could not be read: {failure}"));
        }
    }
}
