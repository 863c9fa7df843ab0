//! Archives: whole, in part, or compressed, made of the files of a path while they are sent.

use std::io;
use std::ops::Range;

use hyper::StatusCode;
use hyper::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use kiln_nar::DigestText;
use kiln_narinfo::PathInfo;
use kiln_store::{ByteStream, LocalStore, written_by};

use crate::answer::{Answer, Refusal};
use crate::body::Content;
use crate::range::Wanted;
use crate::site::{Asked, Site};

const MEDIA_TYPE: &str = "application/x-nix-nar";

/// What is named by its hash never becomes anything else.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// How much zstd tries: its usual level.
const LEVEL: i32 = 3;

impl Site {
    pub(crate) async fn archive(
        &self,
        digest: &DigestText,
        nar_hash: &str,
        is_compressed: bool,
        asked: &Asked<'_>,
    ) -> Result<Answer, Refusal> {
        let info = self.path_info(digest).await?;
        if info.nar_hash.nix32() != nar_hash {
            return Err(Refusal::NotFound);
        }
        // What tells the bytes of this form from those of the other (RFC 9110, section 8.8.3).
        let tag = format!("\"{nar_hash}{}\"", if is_compressed { "-zst" } else { "" });
        let answer = if asked.header(IF_NONE_MATCH).is_some_and(|known| names(known, &tag)) {
            Answer::new(MEDIA_TYPE, Content::Nothing(None)).with_status(StatusCode::NOT_MODIFIED)
        } else if is_compressed {
            self.compressed(&info, asked).await?
        } else {
            self.plain(&info, &tag, asked).await?
        };
        Ok(answer.with(ETAG, tag).with(CACHE_CONTROL, FOR_EVER))
    }

    async fn plain(&self, info: &PathInfo, tag: &str, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        let size = info.nar_size;
        let is_same = asked.header(IF_RANGE).is_none_or(|known| known.trim() == tag);
        let range = asked.header(RANGE).filter(|_| is_same && !asked.is_head);
        let part = match range.map_or(Wanted::Whole, |range| Wanted::parse(range, size)) {
            Wanted::Whole => None,
            Wanted::Part(part) => Some(part),
            Wanted::Nothing => {
                return Ok(Answer::new(MEDIA_TYPE, Content::Nothing(Some(0)))
                    .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .with(CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        let answer = if asked.is_head {
            Answer::new(MEDIA_TYPE, Content::Nothing(Some(size)))
        } else {
            let held = self.hold(&info.path).await?;
            let length = part.as_ref().map_or(size, |part| part.end - part.start);
            let source = dump(&self.store, info, part.clone())?;
            Answer::new(MEDIA_TYPE, self.stream(source, Some(length), held, asked).await?)
        };
        let answer = answer.with(ACCEPT_RANGES, "bytes");
        Ok(match part {
            None => answer,
            Some(Range { start, end }) => answer
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end.saturating_sub(1))),
        })
    }

    async fn compressed(&self, info: &PathInfo, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        let content = if asked.is_head {
            Content::Nothing(None)
        } else {
            let held = self.hold(&info.path).await?;
            let source = compress(&self.store, info)?;
            self.stream(source, None, held, asked).await?
        };
        Ok(Answer::new(MEDIA_TYPE, content).with(ACCEPT_RANGES, "none"))
    }
}

/// The archive of a path, or a part of it.
fn dump(store: &LocalStore, info: &PathInfo, part: Option<Range<u64>>) -> Result<ByteStream, Refusal> {
    let name = LocalStore::component(&info.path)?;
    let store = store.clone();
    Ok(written_by(move |out| {
        let dumped = match part {
            None => kiln_fs::dump(store.directory(), &name, out).map(drop),
            Some(part) => kiln_fs::dump_part(store.directory(), &name, part, out),
        };
        dumped.map_err(io::Error::other)
    }))
}

/// The archive of a path, compressed while it is made.
fn compress(store: &LocalStore, info: &PathInfo) -> Result<ByteStream, Refusal> {
    let name = LocalStore::component(&info.path)?;
    let (store, size) = (store.clone(), info.nar_size);
    Ok(written_by(move |out| {
        let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL)?;
        encoder.include_checksum(true)?;
        // If the archive turns out to be of another size, the encoder fails.
        encoder.set_pledged_src_size(Some(size))?;
        kiln_fs::dump(store.directory(), &name, &mut encoder).map_err(io::Error::other)?;
        encoder.finish().map(drop)
    }))
}

/// Whether `If-None-Match` names this tag, strongly or weakly.
fn names(header: &str, tag: &str) -> bool {
    header
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
