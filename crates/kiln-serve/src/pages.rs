//! Pages for people: what this is, and what is in a path. Plain documents without scripts, that read well in any browser.
//!
//! Names of files, derivations and keys come from whoever built them: nothing gets into a page but through [`html`].

mod contents;
mod html;

use std::collections::BTreeSet;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION};
use kiln_nar::{DIGEST_LENGTH, DigestText};
use kiln_narinfo::PathInfo;
use kiln_store::{Follow, blocking};
use kiln_store_path::StorePath;

use crate::answer::{Answer, PLAIN, Refusal};
use crate::site::Site;
use contents::Contents;
use html::Html;

/// Pages may load the style and send the form back; nothing else that might have got into one is obeyed.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("pages/style.css");

/// Paths that refer to a path can be many: so many are shown.
const MOST_REFERRERS: usize = 100;

/// All that the page of a path tells.
struct Facts {
    info: PathInfo,
    closure: (usize, u64),
    referrers: BTreeSet<StorePath>,
    contents: Contents,
    has_deriver: bool,
    has_log: bool,
}

impl Site {
    pub(crate) fn home(&self, host: Option<&str>) -> Answer {
        let store_dir = self.store.store_dir().as_str();
        let mut page = Html::new("Binary cache");
        page.open("main").heading(1, "Binary cache").open("p");
        page.text("This is a cache of the store ").element("code", store_dir);
        page.text(", served by Kiln. All that is valid there can be fetched from here.").close("p");
        page.heading(2, "Use it").open("p").text("In ").element("code", "nix.conf").text(":").close("p");
        let mut lines = format!("extra-substituters = http://{}\n", host.unwrap_or("HOST"));
        for key in self.config.keys.iter() {
            lines += &format!("extra-trusted-public-keys = {}\n", key.public_key());
        }
        page.element("pre", &lines);
        if self.config.keys.is_empty() {
            page.element("p", "It adds no signatures of its own: a path has those that it came with.");
        }
        page.heading(2, "Look into a path").form(store_dir).close("main");
        answer(page)
    }

    /// The way from what a person has typed to the page about it.
    pub(crate) fn typed(&self, typed: &str) -> Result<Answer, Refusal> {
        let digest = digest_in(typed.trim(), self.store.store_dir().as_str()).ok_or(Refusal::NotFound)?;
        let answer = Answer::text(PLAIN, "").with_status(StatusCode::SEE_OTHER);
        Ok(answer.with(LOCATION, format!("/path/{digest}")))
    }

    pub(crate) fn style(&self) -> Answer {
        Answer::text("text/css; charset=utf-8", STYLE).with(CACHE_CONTROL, "public, max-age=3600")
    }

    pub(crate) async fn page(&self, digest: &DigestText) -> Result<Answer, Refusal> {
        // The semaphore is never closed.
        let _place = self.pages.acquire().await.ok();
        let info = (*self.path_info(digest).await?).clone();
        let closure = self.store.closure_infos(vec![info.path.clone()], Follow::REFERENCES).await?;
        let size = closure.values().fold(0_u64, |size, info| size.saturating_add(info.nar_size));
        let referrers = self.store.referrers(&info.path).await?;
        let (store, path) = (self.store.clone(), info.path.clone());
        let contents = blocking(move || Contents::of(&store, &path)).await;
        let has_deriver = match &info.deriver {
            Some(deriver) => self.store.is_valid(deriver).await?,
            None => false,
        };
        let has_log = match info.deriver.as_ref().filter(|deriver| deriver.is_derivation()) {
            Some(deriver) => {
                let _place = self.place().await?;
                self.store.read_log(deriver).await?.is_some()
            }
            None => false,
        };
        let facts = Facts { info, closure: (closure.len(), size), referrers, contents, has_deriver, has_log };
        Ok(answer(self.page_of(&facts)))
    }

    fn page_of(&self, facts: &Facts) -> Html {
        let info = &facts.info;
        let mut page = Html::new(info.path.name());
        page.open("nav").link("/", "Binary cache").close("nav").open("main");
        page.heading(1, info.path.name());
        page.open("p").element("code", &self.store.print(&info.path)).close("p");
        page.open("dl");
        page.term("Size").element("dd", &bytes(info.nar_size));
        let (count, size) = facts.closure;
        page.term("Size with all that it needs").element(
            "dd",
            &format!("{}, {count} {}", bytes(size), if count == 1 { "path" } else { "paths" }),
        );
        page.term("Hash")
            .open("dd")
            .element("code", &format!("sha256:{}", info.nar_hash.nix32()))
            .close("dd");
        if let Some(address) = &info.content_address {
            page.term("Content address").open("dd").element("code", &address.to_string()).close("dd");
        }
        page.term("Derivation").open("dd");
        match &info.deriver {
            Some(deriver) if facts.has_deriver => page.path(deriver),
            Some(deriver) => page.element("code", deriver.base_name()),
            None => page.text("not known"),
        };
        page.close("dd").term("Signatures");
        for signature in &info.signatures {
            page.open("dd").element("code", signature.as_str()).close("dd");
        }
        let keys: Vec<&str> = self.config.keys.iter().map(kiln_narinfo::SecretKey::name).collect();
        match (info.signatures.is_empty(), keys.is_empty()) {
            (true, true) => page.element("dd", "none"),
            (_, true) => &mut page,
            (_, false) => page.element("dd", &format!("signed when asked for, with {}", keys.join(", "))),
        };
        page.close("dl");
        self.links(&mut page, facts);
        let needed: Vec<&StorePath> = info.references.iter().filter(|path| **path != info.path).collect();
        page.paths("Refers to", &needed, needed.len());
        let used: Vec<&StorePath> = facts.referrers.iter().filter(|path| **path != info.path).collect();
        page.paths("Referred to by", used.get(..MOST_REFERRERS).unwrap_or(&used), used.len());
        facts.contents.write(&mut page);
        page.close("main");
        page
    }

    fn links(&self, page: &mut Html, facts: &Facts) {
        let info = &facts.info;
        let digest = info.path.digest();
        page.heading(2, "Files of the cache").open("ul");
        let archive = format!("/nar/{digest}-{}.nar", info.nar_hash.nix32());
        for (url, name) in [
            (format!("/{digest}.narinfo"), "narinfo"),
            (archive, "archive (NAR)"),
            (format!("/{digest}.ls"), "listing (JSON)"),
        ] {
            page.open("li").link(&url, name).close("li");
        }
        if let Some(deriver) = info.deriver.as_ref().filter(|_| facts.has_log) {
            page.open("li").link(&format!("/log/{}", html::in_url(deriver.base_name())), "log of the build");
            page.close("li");
        }
        page.close("ul");
    }
}

fn answer(page: Html) -> Answer {
    Answer::text("text/html; charset=utf-8", page.finish()).with(CONTENT_SECURITY_POLICY, POLICY)
}

/// The digest of a path, of something in it, or of a name, as people type or paste them.
fn digest_in(typed: &str, store_dir: &str) -> Option<DigestText> {
    let below = typed.strip_prefix(store_dir).map(|rest| rest.trim_start_matches('/')).unwrap_or(typed);
    let (digest, rest) = below.split_at_checked(DIGEST_LENGTH)?;
    let is_whole = rest.is_empty() || rest.starts_with(['-', '.', '/']);
    DigestText::new(digest).ok().filter(|_| is_whole)
}

/// Bytes as people read them, and exactly.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let power = bytes.ilog2().checked_div(10).unwrap_or(0).min(4);
    let unit = UNITS.get(power as usize - 1).copied().unwrap_or("TiB");
    // In tenths, rounded down.
    let tenths = (u128::from(bytes) * 10) >> (10 * power);
    format!("{}.{} {unit} ({bytes} bytes)", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (size, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB (1024 bytes)"),
            (1_600_000, "1.5 MiB (1600000 bytes)"),
            (u64::MAX, "16777215.9 TiB (18446744073709551615 bytes)"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn what_people_type_is_found() {
        let digest = "9jkdg1fd3213linvmnsyvl2qc00gifpm";
        for typed in ["", "-dep", "/bin", ".narinfo"] {
            for before in ["", "/nix/store/"] {
                let found = digest_in(&format!("{before}{digest}{typed}"), "/nix/store");
                assert_eq!(found.map(|found| found.to_string()).as_deref(), Some(digest), "{before} {typed}");
            }
        }
        for wrong in ["", "hello", "/etc/passwd", "9jkdg1fd3213linvmnsyvl2qc00gifpmx", "ééééééééééééééééé"]
        {
            assert_eq!(digest_in(wrong, "/nix/store"), None);
        }
    }
}
