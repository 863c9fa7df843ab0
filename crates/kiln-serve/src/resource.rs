//! What a request is about: the path of a URL as a value. What does not read strictly as one of these is not there.

use std::borrow::Cow;

use kiln_nar::DigestText;
use kiln_narinfo::RealisationId;
use kiln_store_path::StorePath;
use percent_encoding::percent_decode_str;

/// Digits of the hash of an archive: a SHA-256 in Nix's base 32.
const HASH_DIGITS: usize = 52;

/// One of the things that are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/nix-cache-info`
    CacheInfo,
    /// `/DIGEST.narinfo`
    NarInfo(DigestText),
    /// `/DIGEST.ls`
    Listing(DigestText),
    /// `/nar/DIGEST-HASH.nar`, or `….nar.zst`
    Archive {
        /// The path's digest.
        digest: DigestText,
        /// The hash of its archive, as narinfo files have it.
        nar_hash: String,
        /// Whether it is to be compressed.
        is_compressed: bool,
    },
    /// `/log/DERIVATION`
    Log(StorePath),
    /// `/realisations/ID.doi`
    Realisation(Box<RealisationId>),
    /// `/health`
    Health,
    /// `/metrics`
    Metrics,
    /// `/`
    Home,
    /// `/path/DIGEST`
    Page(DigestText),
    /// `/path?q=PATH`: what a person has typed.
    Find(String),
    /// `/style.css`
    Style,
}

impl Resource {
    /// Reads path and query of a URL; `None` if there is nothing of that name.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        match path {
            "" => return Some(Self::Home),
            "nix-cache-info" => return Some(Self::CacheInfo),
            "health" => return Some(Self::Health),
            "metrics" => return Some(Self::Metrics),
            "style.css" => return Some(Self::Style),
            "path" => return query.and_then(typed).map(Self::Find),
            _ => {}
        }
        if let Some(digest) = path.strip_suffix(".narinfo") {
            return DigestText::new(digest).ok().map(Self::NarInfo);
        }
        if let Some(digest) = path.strip_suffix(".ls") {
            return DigestText::new(digest).ok().map(Self::Listing);
        }
        let (directory, name) = path.split_once('/')?;
        match directory {
            "nar" => archive(name),
            "path" => DigestText::new(name).ok().map(Self::Page),
            "log" => {
                // Names of store paths may have a question mark in them, which not every client encodes.
                let name = query.map_or(Cow::Borrowed(name), |rest| Cow::Owned(format!("{name}?{rest}")));
                let path = StorePath::from_base_name(decoded(&name)?.as_bytes()).ok()?;
                path.is_derivation().then_some(Self::Log(path))
            }
            "realisations" => {
                let id = decoded(name)?;
                let id = id.strip_suffix(".doi")?;
                let parsed: RealisationId = id.parse().ok()?;
                (parsed.to_string() == id).then(|| Self::Realisation(Box::new(parsed)))
            }
            _ => None,
        }
    }

    /// The name of its kind in metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::CacheInfo => "cache-info",
            Self::NarInfo(_) => "narinfo",
            Self::Listing(_) => "listing",
            Self::Archive { .. } => "nar",
            Self::Log(_) => "log",
            Self::Realisation(_) => "realisation",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Home | Self::Page(_) | Self::Find(_) | Self::Style => "page",
        }
    }
}

fn archive(name: &str) -> Option<Resource> {
    let (name, is_compressed) = match name.strip_suffix(".zst") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (digest, nar_hash) = name.strip_suffix(".nar")?.split_once('-')?;
    let is_hash = nar_hash.len() == HASH_DIGITS && nar_hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let digest = DigestText::new(digest).ok()?;
    is_hash.then(|| Resource::Archive { digest, nar_hash: nar_hash.to_owned(), is_compressed })
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// The value of the form's one field.
fn typed(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("q="))?;
    decoded(&value.replace('+', " ")).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "9jkdg1fd3213linvmnsyvl2qc00gifpm";
    const HASH: &str = "1gldqai9q6c6lypa2jk96qgwdgqij7j6ccxk8macikzgy3j59dwv";

    fn parse(target: &str) -> Option<Resource> {
        match target.split_once('?') {
            Some((path, query)) => Resource::parse(path, Some(query)),
            None => Resource::parse(target, None),
        }
    }

    #[test]
    fn what_there_is_is_found() {
        let digest = DigestText::new(DIGEST).unwrap();
        let archive =
            |is_compressed| Some(Resource::Archive { digest, nar_hash: HASH.to_owned(), is_compressed });
        assert_eq!(parse("/"), Some(Resource::Home));
        assert_eq!(parse("/nix-cache-info"), Some(Resource::CacheInfo));
        assert_eq!(parse(&format!("/{DIGEST}.narinfo")), Some(Resource::NarInfo(digest)));
        assert_eq!(parse(&format!("/{DIGEST}.ls")), Some(Resource::Listing(digest)));
        assert_eq!(parse(&format!("/nar/{DIGEST}-{HASH}.nar")), archive(false));
        assert_eq!(parse(&format!("/nar/{DIGEST}-{HASH}.nar.zst")), archive(true));
        assert_eq!(parse(&format!("/path/{DIGEST}")), Some(Resource::Page(digest)));
        let log = |name: &str| Some(Resource::Log(StorePath::from_base_name(name).unwrap()));
        assert_eq!(parse(&format!("/log/{DIGEST}-a+b.drv")), log(&format!("{DIGEST}-a+b.drv")));
        assert_eq!(parse(&format!("/log/{DIGEST}-a?b.drv")), log(&format!("{DIGEST}-a?b.drv")));
        assert_eq!(parse(&format!("/log/{DIGEST}-a%3fb.drv")), log(&format!("{DIGEST}-a?b.drv")));
        assert_eq!(parse("/path?x=1&q=%2Fnix+y"), Some(Resource::Find("/nix y".to_owned())));
        let id = format!("sha256:{}!out", "0a".repeat(32));
        assert_eq!(parse(&format!("/realisations/{id}.doi")).unwrap().kind(), "realisation");
        assert_eq!(
            parse(&format!("/realisations/{}.doi", id.replace('!', "%21"))).unwrap().kind(),
            "realisation"
        );
    }

    #[test]
    fn nothing_else_is_there() {
        for target in [
            "",
            "nix-cache-info",
            "//nix-cache-info",
            "/../nix-cache-info",
            "/nar/../nix-cache-info",
            "/nix-cache-info/",
            "/path",
            "/path/../../etc/passwd",
            "/log/../../etc/passwd.drv",
            "/log/%2e%2e%2f%2e%2e%2fetc%2fpasswd.drv",
            "/log/..%2f9jkdg1fd3213linvmnsyvl2qc00gifpm-x.drv",
            "/log/9jkdg1fd3213linvmnsyvl2qc00gifpm-x",
            "/log/9jkdg1fd3213linvmnsyvl2qc00gifpm-%ff.drv",
            "/log/9jkdg1fd3213linvmnsyvl2qc00gifpm-a%00.drv",
            "/9jkdg1fd3213linvmnsyvl2qc00gifp.narinfo",
            "/9jkdg1fd3213linvmnsyvl2qc00gifpe.narinfo",
            "/9JKDG1FD3213LINVMNSYVL2QC00GIFPM.narinfo",
            "/9jkdg1fd3213linvmnsyvl2qc00gifpm-dep.narinfo",
            "/nar/9jkdg1fd3213linvmnsyvl2qc00gifpm.nar",
            "/nar/9jkdg1fd3213linvmnsyvl2qc00gifpm-1gld.nar",
            "/realisations/sha256:00!out.doi",
            "/realisations/out",
        ] {
            assert_eq!(parse(target), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_is_nothing(target in "/(log/|nar/|path/|realisations/)?[ -~]{0,80}") {
            let _ = parse(&target);
        }
    }
}
