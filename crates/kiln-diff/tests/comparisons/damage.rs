//! Damage and arbitrary bytes: found where they are, and never a panic.

use super::compared;
use super::making::{Machine, Member, ar, gzip, member, pyc, tar, zip};
use kiln_diff::{Contents, Limits, Pair, compare_contents};
use proptest::prelude::*;

/// A file of each known format.
fn formats() -> Vec<(&'static str, Vec<u8>)> {
    let machine = Machine { is_64: true, is_big: false };
    let note = machine.note(b"GNU\0", 3, &[7; 20]);
    let elf = machine.elf(&[
        (".note.gnu.build-id", note),
        (".comment", b"GCC\0".to_vec()),
        (".gnu_debuglink", b"x\0\0\0\x01\x02\x03\x04".to_vec()),
        (".rodata", b"\0Jan  1 2024\0".to_vec()),
    ]);
    let small = Machine { is_64: false, is_big: true }.elf(&[(".text", b"code".to_vec())]);
    let members = [member("a/", "text\n"), Member { time: 5, ..member("b/", &elf) }];
    vec![
        ("x", elf),
        ("x", small),
        ("x.a", ar(&[&[member("//", "a long name.o/\n"), member("/0", "x")][..], &members].concat())),
        ("x.tar", tar(&members)),
        ("x.zip", zip(&members)),
        ("x.gz", gzip(1, Some("x"), b"data", 1)),
        ("x.pyc", pyc(0, [1, 2], b"code")),
        ("x.txt", b"1704067200 /build/x 2024-01-01\nlines\nlines\n".to_vec()),
    ]
}

#[test]
fn each_flipped_byte_is_found_in_its_place() {
    for (name, original) in formats() {
        for at in 0..original.len() {
            let mut damaged = original.clone();
            damaged[at] ^= [1, 0x80, 0xff][at % 3];
            let difference = compared(name, &original, &damaged);
            assert_eq!(difference.first_difference, at as u64);
            assert_eq!((difference.differing_bytes, difference.regions), (1, 1));
            assert_eq!(difference.not_compared, 0);
            let shown = at - difference.context.offset as usize;
            assert_eq!(difference.context.a[shown], original[at]);
            assert_eq!(difference.context.b[shown], damaged[at]);
        }
    }
}

#[test]
fn each_truncation() {
    for (name, original) in formats() {
        for length in 0..original.len() {
            let difference = compared(name, &original, &original[..length]);
            assert_eq!(difference.first_difference, length as u64);
            assert_eq!(difference.sizes, Pair::new(original.len() as u64, length as u64));
        }
    }
}

/// What reads nothing at all, and what has shrunk since it was measured.
#[test]
fn failures_of_reading() {
    struct Broken(u64);
    impl Contents for Broken {
        fn length(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    struct Shrunk;
    impl Contents for Shrunk {
        fn length(&self) -> u64 {
            10
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
    }
    let bytes: &[u8] = b"0123456789";
    let kind = |other: &dyn Contents| {
        compare_contents(b"x", Pair::new(&bytes, other), &Limits::default()).map_err(|error| error.kind())
    };
    assert_eq!(kind(&Broken(10)), Err(std::io::ErrorKind::PermissionDenied));
    assert_eq!(kind(&Shrunk), Err(std::io::ErrorKind::UnexpectedEof));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn much_damage(which in 0..8_usize, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let (name, original) = formats().swap_remove(which);
        let mut damaged = original.clone();
        for (place, byte) in edits {
            damaged[place.index(original.len())] = byte;
        }
        prop_assume!(damaged != original);
        let first = original.iter().zip(&damaged).position(|(a, b)| a != b).unwrap();
        let differing = original.iter().zip(&damaged).filter(|(a, b)| a != b).count();
        let difference = compared(name, &original, &damaged);
        prop_assert_eq!(difference.first_difference, first as u64);
        prop_assert_eq!(difference.differing_bytes, differing as u64);
    }

    #[test]
    fn arbitrary_bytes(which in 0..8_usize, a in prop::collection::vec(any::<u8>(), 0..300), b in prop::collection::vec(any::<u8>(), 0..300)) {
        // Behind what each format begins with.
        let (name, original) = formats().swap_remove(which);
        let start = &original[..original.len().min(17)];
        let (a, b) = ([start, &a].concat(), [start, &b].concat());
        prop_assume!(a != b);
        let first = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        prop_assert_eq!(compared(name, &a, &b).first_difference, first as u64);
    }

    #[test]
    fn the_same(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (a, b) = (&bytes[..], &bytes.clone()[..]);
        let contents = Pair::new(&a as &dyn Contents, &b as &dyn Contents);
        prop_assert_eq!(compare_contents(b"x", contents, &Limits::default()).unwrap(), None);
    }
}
