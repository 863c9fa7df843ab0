//! How fast derivations are read and written: `cargo bench -p kiln-derivation`.
//!
//! Prints MB of ATerm text per second, the best and the median of several rounds, for a derivation with many inputs and a
//! long environment, as real package sets have them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark reports by printing and fails by panicking"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use kiln_derivation::{Derivation, DerivationOutput, InputOutputs, Strictness};
use kiln_store_path::{OutputName, StoreDir, StorePath, StorePathName};

const ROUNDS: usize = 15;
const PASSES: usize = 200;

fn main() {
    let store_dir = StoreDir::default();
    let derivation = large_derivation();
    let text = derivation.to_aterm(&store_dir).unwrap();
    let megabytes = text.len() as f64 * PASSES as f64 / 1e6;
    println!("derivation of {} bytes, {} inputs", text.len(), derivation.input_derivations.len());
    report("read", megabytes, || {
        let read = Derivation::parse_aterm(&text, &derivation.name, &store_dir, Strictness::Strict);
        black_box(read.unwrap());
    });
    report("write", megabytes, || {
        black_box(derivation.to_aterm(&store_dir).unwrap());
    });
}

fn report(what: &str, megabytes: f64, mut pass: impl FnMut()) {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..PASSES).for_each(|_| pass());
            megabytes / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("{what:>6}: best {:.0} MB/s, median {:.0} MB/s", rates[ROUNDS - 1], rates[ROUNDS / 2]);
}

/// Three hundred inputs, a hundred variables, a script with many characters to escape.
fn large_derivation() -> Derivation {
    let path = |n: usize, name: &str| StorePath::from_base_name(format!("{n:032}-{name}")).unwrap();
    let variable = |n: usize| (format!("variable{n}").into_bytes(), "a value ".repeat(12).into_bytes());
    let mut environment: BTreeMap<Vec<u8>, Vec<u8>> = (0..100).map(variable).collect();
    environment.insert(b"script".to_vec(), "echo \"one\"\n\tcp \\\n".repeat(200).into_bytes());
    let out = path(1, "large");
    environment.insert(b"out".to_vec(), StoreDir::default().print(&out).into_bytes());
    Derivation {
        name: StorePathName::new("large").unwrap(),
        outputs: [(OutputName::out(), DerivationOutput::InputAddressed(out))].into(),
        input_derivations: (0..300)
            .map(|n| (path(n, "input.drv"), InputOutputs::new([OutputName::out()])))
            .collect(),
        input_sources: (0..20).map(|n| path(n, "source")).collect(),
        system: b"x86_64-linux".to_vec(),
        builder: b"/bin/sh".to_vec(),
        arguments: vec![b"-e".to_vec()],
        environment,
        structured_attrs: None,
    }
}
