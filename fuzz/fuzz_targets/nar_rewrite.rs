//! Rewriting and scanning a stream in pieces is the same as doing it at once, and the same as plain replacing.
#![no_main]

use kiln_nar::{DIGEST_LENGTH, DigestText, HashRewriter, ReferenceScanner, Stage as _};
use libfuzzer_sys::fuzz_target;

const DIGEST: &[u8; DIGEST_LENGTH] = b"mz985b11rp8ccbhb4gcc1bpxwpxvbw6d";

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    // So that digests and cut ones are likely: bytes above 0xf0 stand for parts of one.
    let stream: Vec<u8> =
        data.iter()
            .flat_map(|&byte| {
                if byte >= 0xf0 { DIGEST[..2 * usize::from(byte - 0xf0) + 2].to_vec() } else { vec![byte] }
            })
            .collect();
    let digest = DigestText::new(DIGEST).unwrap();
    let mut rewriter = HashRewriter::new([(digest, [0; DIGEST_LENGTH])]).record_positions();
    let mut scanner = ReferenceScanner::new([digest]);
    let mut rewritten = Vec::new();
    for piece in stream.chunks(usize::from(size).max(1)) {
        rewriter.update(piece, &mut rewritten);
        scanner.update(piece);
    }
    let occurrences = rewriter.finish(&mut rewritten);
    let mut plain = stream.clone();
    let (mut at, mut found) = (0, Vec::new());
    while at + DIGEST_LENGTH <= plain.len() {
        if plain[at..at + DIGEST_LENGTH] == *DIGEST {
            plain[at..at + DIGEST_LENGTH].fill(0);
            found.push(at as u64);
            at += DIGEST_LENGTH;
        } else {
            at += 1;
        }
    }
    assert_eq!(rewritten, plain);
    assert_eq!(rewriter.positions(), found);
    assert_eq!(occurrences, found.len() as u64);
    assert_eq!(scanner.found().count(), usize::from(!found.is_empty()));
});
