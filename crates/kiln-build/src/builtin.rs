//! Builders that are part of the program (B11): what the engine hands over to them, and how they are run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use kiln_builtins::Inputs;
use kiln_derivation::{Derivation, DerivationKind};
use kiln_http::{Proxies, TransferSettings};
use kiln_sandbox::{BuiltinCall, ByteString};
use kiln_settings::Settings;
use serde::{Deserialize, Serialize};

/// As much of a file of credentials or certificates as is read, in bytes.
const LARGEST_FILE: u64 = 16 << 20;

/// What a builtin is given besides its environment. It travels in the plan of the build, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct BuiltinInput {
    netrc: Option<ByteString>,
    certificates: Option<ByteString>,
    transfers: TransferSettings,
    hashed_mirrors: Vec<String>,
}

impl BuiltinInput {
    /// For a derivation whose builder is a builtin. Reads the files of credentials and certificates, which the sandbox
    /// hides; a file that is not there, or that the engine may not read, is one without contents, as the client has it.
    ///
    /// Credentials are for fixed outputs alone: what others download nobody can check, and nobody asked for.
    pub(crate) fn gather(
        settings: &Settings,
        environment: &BTreeMap<Vec<u8>, Vec<u8>>,
        derivation: &Derivation,
    ) -> Self {
        if derivation.builder != b"builtin:fetchurl" {
            return Self::default();
        }
        let read = |file: &str| read_small(file).map(ByteString::from);
        let is_fixed = derivation.kind().is_ok_and(|kind| kind == DerivationKind::Fixed);
        Self {
            netrc: read(&settings.netrc_file).filter(|_| is_fixed),
            certificates: settings.ssl_cert_file.as_deref().and_then(read),
            transfers: transfer_settings(settings, environment),
            hashed_mirrors: settings.hashed_mirrors.clone(),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The contents of a file of credentials or certificates; nothing if it can't be read. Blocks.
pub(crate) fn read_small(file: &str) -> Option<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(file).ok()?.take(LARGEST_FILE).read_to_end(&mut contents).ok()?;
    Some(contents)
}

/// How files are transferred, with the proxies that the environment names.
pub(crate) fn transfer_settings(
    settings: &Settings,
    environment: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> TransferSettings {
    let variable = |name: &str| {
        let value = environment.get(name.as_bytes())?;
        String::from_utf8(value.clone()).ok()
    };
    TransferSettings {
        connect_timeout: Duration::from_secs(settings.connect_timeout),
        stalled_download_timeout: Duration::from_secs(settings.stalled_download_timeout),
        download_attempts: u32::try_from(settings.download_attempts).unwrap_or(u32::MAX),
        proxies: Proxies::from_environment(variable),
        ..TransferSettings::default()
    }
}

/// Runs a builtin: to be handed to [`kiln_sandbox::run_if_launcher`].
pub fn run_builtin(call: &BuiltinCall) -> u8 {
    let Ok(given) = serde_json::from_slice::<BuiltinInput>(call.input.as_bytes()) else {
        println!("error: the engine and its launcher are not of the same version");
        return 1;
    };
    let bytes = |text: &ByteString| text.as_bytes().to_vec();
    let inputs = Inputs {
        environment: call.environment.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        netrc: given.netrc.as_ref().map(bytes),
        certificates: given.certificates.as_ref().map(bytes),
        transfers: given.transfers,
        hashed_mirrors: given.hashed_mirrors,
    };
    let builder = String::from_utf8_lossy(call.builder.as_bytes());
    let name = builder.strip_prefix("builtin:").unwrap_or(&builder);
    match kiln_builtins::run(name, &inputs, &mut io::stderr()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}
