//! `kiln cache key`: keys for signing.

use std::io::Read as _;

use clap::Arg;
use kiln_narinfo::SecretKey;
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::output;

/// Far more than a key has, in bytes.
const LARGEST_KEY: u64 = 64 << 10;

pub(super) const ENTRY: Entry = Entry {
    name: "key",
    purpose: "Make keys that sign paths",
    description: "A secret key signs paths ('kiln store sign', the parameter 'secret-key' of a cache's URL, the setting \
        'secret-key-files'); who has the public key in the setting 'trusted-public-keys' believes the signatures. The \
        texts are those of Nix.",
    kind: Kind::Group(&[GENERATE, CONVERT]),
};

const GENERATE: Entry = Entry {
    name: "generate",
    purpose: "Make a secret key",
    description: "Prints a new secret key, NAME:BASE64 without a line feed. Whoever reads it can sign.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.arg(
                Arg::new("name")
                    .value_name("NAME")
                    .required(true)
                    .help("Name of the key, such as cache.example.org-1"),
            )
        },
        takes_settings: false,
        examples: &[(
            "(umask 077; kiln cache key generate cache.example.org-1 > key.sec)",
            "a key that only you can read",
        )],
        exit_codes: &[],
        run: generate,
    }),
};

const CONVERT: Entry = Entry {
    name: "convert-secret-to-public",
    purpose: "Print the public key that belongs to a secret key",
    description: "Reads a secret key from standard input and prints its public key, without a line feed.",
    kind: Kind::Run(Run {
        arguments: |command| command,
        takes_settings: false,
        examples: &[(
            "kiln cache key convert-secret-to-public < key.sec",
            "what others put into 'trusted-public-keys'",
        )],
        exit_codes: &[],
        run: convert,
    }),
};

fn generate(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let name = invocation.text("name").unwrap_or_default();
    let key = SecretKey::generate(name, random_seed()?).ok_or_else(|| {
        Failure::input("the name of a key must not be empty, nor have a colon or white space in it")
    })?;
    output::print(key.to_secret_text())?;
    Ok(0)
}

/// What a new key is made of.
pub(crate) fn random_seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    let length =
        getrandom(&mut seed, GetRandomFlags::empty()).doing(|| "asking the system for randomness")?;
    if length != seed.len() {
        return Err(Failure::environment("the system gave too little randomness"));
    }
    Ok(seed)
}

fn convert(_: &Invocation<'_>) -> Result<u8, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LARGEST_KEY).read_to_string(&mut text);
    read.doing(|| "reading the secret key from standard input")?;
    let key: SecretKey = text.parse()?;
    output::print(key.public_key().to_string())?;
    Ok(0)
}
