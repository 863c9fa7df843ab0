//! `kiln hash`: digests of files and trees, and their notations.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use kiln_hash::{Algorithm, Hash, Hasher};

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::{output, place};

pub(super) const ENTRY: Entry = Entry {
    name: "hash",
    purpose: "Compute and convert hashes",
    description: "Hashes are printed alone, one per line, in the order of the arguments: as SRI (sha256-BASE64) unless \
        one of --base16, --base64 and --nix32 asks for bare digits.",
    kind: Kind::Group(&[FILE, PATH, CONVERT]),
};

const FILE: Entry = Entry {
    name: "file",
    purpose: "Hash the contents of files",
    description: "Hashes the bytes of each file, as 'outputHashMode = \"flat\"' means it. '-' is standard input.",
    kind: Kind::Run(Run {
        arguments: |command| notation(algorithm(paths(command), "Hash algorithm")),
        takes_settings: false,
        examples: &[
            ("kiln hash file hello-2.12.tar.gz", "the hash as a fixed-output derivation states it"),
            ("kiln hash file --type sha512 --base16 image.iso", "what 'sha512sum image.iso' prints"),
        ],
        exit_codes: &[],
        run: |invocation| each_path(invocation, hash_file),
    }),
};

const PATH: Entry = Entry {
    name: "path",
    purpose: "Hash files and directories as archives",
    description: "Hashes the NAR archive of each file or directory, as 'outputHashMode = \"recursive\"' means it and as \
        a store keeps it of its paths. A symbolic link is hashed as the link that it is.",
    kind: Kind::Run(Run {
        arguments: |command| notation(algorithm(paths(command), "Hash algorithm")),
        takes_settings: false,
        examples: &[
            ("kiln hash path ./src", "the hash of a source tree"),
            ("kiln hash path --nix32 ./result/", "the NAR hash of what a link leads to"),
        ],
        exit_codes: &[],
        run: |invocation| each_path(invocation, hash_tree),
    }),
};

const CONVERT: Entry = Entry {
    name: "convert",
    purpose: "Write hashes in another notation",
    description: "Takes hashes in any notation that Nix knows: SRI, ALGORITHM:DIGITS, or bare digits (base 16, Nix's \
        base 32, base 64, told apart by their number) with --type.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let hashes =
                Arg::new("hash").value_name("HASH").num_args(1..).required(true).help("Hashes to convert");
            notation(algorithm(
                command.arg(hashes),
                "Hash algorithm that the hashes are of, if they don't say so",
            ))
        },
        takes_settings: false,
        examples: &[
            (
                "kiln hash convert --nix32 sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
                "the digits as they are in a store path's narinfo",
            ),
            ("kiln hash convert --type md5 1B2M2Y8AsgTpgAmY7PhCfg==", "bare digits need their algorithm"),
        ],
        exit_codes: &[],
        run: convert,
    }),
};

fn paths(command: Command) -> Command {
    command.arg(
        Arg::new("path")
            .value_name("PATH")
            .num_args(1..)
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("What to hash"),
    )
}

fn algorithm(command: Command, help: &'static str) -> Command {
    let names = Algorithm::ALL.map(Algorithm::name);
    command.arg(Arg::new("type").long("type").value_name("ALGORITHM").value_parser(names).help(help))
}

fn notation(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command
        .args([
            flag("sri").help("Print ALGORITHM-BASE64 (the default)"),
            flag("base16").help("Print digits in base 16"),
            flag("base64").help("Print digits in base 64"),
            flag("nix32").alias("base32").help("Print digits in Nix's base 32"),
        ])
        .group(ArgGroup::new("notation").args(["sri", "base16", "base64", "nix32"]))
}

/// The algorithm that the command line names.
fn chosen_algorithm(matches: &ArgMatches) -> Option<Algorithm> {
    matches.get_one::<String>("type").and_then(|name| name.parse().ok())
}

fn printed(hash: &Hash, matches: &ArgMatches) -> String {
    let digits = if matches.get_flag("base16") {
        hash.base16()
    } else if matches.get_flag("base64") {
        hash.base64()
    } else if matches.get_flag("nix32") {
        hash.nix32()
    } else {
        hash.sri()
    };
    digits + "\n"
}

fn each_path(
    invocation: &Invocation<'_>,
    hash: fn(&Path, Algorithm) -> Result<Hash, Failure>,
) -> Result<u8, Failure> {
    let algorithm = chosen_algorithm(invocation.matches).unwrap_or(Algorithm::Sha256);
    for path in invocation.values::<PathBuf>("path") {
        output::print(printed(&hash(&path, algorithm)?, invocation.matches))?;
    }
    Ok(0)
}

fn hash_file(path: &Path, algorithm: Algorithm) -> Result<Hash, Failure> {
    let mut source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).doing(|| format!("opening '{}'", path.display()))?)
    };
    let mut hasher = Hasher::new(algorithm);
    let mut piece = vec![0; 128 * 1024];
    loop {
        let length = source.read(&mut piece).doing(|| format!("reading '{}'", path.display()))?;
        match piece.get(..length) {
            None | Some([]) => return Ok(hasher.finish()),
            Some(bytes) => hasher.update(bytes),
        }
    }
}

/// A hasher as the end of a dump.
struct HashingSink(Hasher);

impl io::Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash_tree(path: &Path, algorithm: Algorithm) -> Result<Hash, Failure> {
    let (directory, name) = place::of(path)?;
    let mut sink = HashingSink(Hasher::new(algorithm));
    kiln_fs::dump(&directory, &name, &mut sink)?;
    Ok(sink.0.finish())
}

fn convert(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let algorithm = chosen_algorithm(invocation.matches);
    for text in invocation.values::<String>("hash") {
        output::print(printed(&Hash::parse_any(&text, algorithm)?, invocation.matches))?;
    }
    Ok(0)
}
