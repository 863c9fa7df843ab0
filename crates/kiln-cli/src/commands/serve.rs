//! `kiln serve`: offers a store as a binary cache.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, Command, value_parser};
use kiln_events::Verbosity;
use kiln_narinfo::SecretKey;
use kiln_serve::{ArchiveCoding, Limits, Listener, ServeConfig, Server};
use kiln_sys::listening::Activation;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::interrupt;
use crate::invocation::Invocation;
use crate::session::Session;

/// Where to listen if nobody says: this machine alone can connect.
const USUAL_ADDRESS: &str = "127.0.0.1:5000";

/// Before `https://cache.nixos.org`, which has 40.
const USUAL_PRIORITY: &str = "30";

/// Anybody may connect to sockets: a proxy has a user of its own, and everything is public.
const SOCKET_MODE: u32 = 0o666;

pub(super) const ENTRY: Entry = Entry {
    name: "serve",
    purpose: "Offer a store as a binary cache over HTTP",
    description: "Publishes everything in the store, source files and secrets that got into it included, to whoever can \
        connect: Nix and Kiln fetch paths and logs from it as from any binary cache, and people look at it with a browser. \
        It listens on this machine's own address unless '--listen', '--socket' or systemd say otherwise. It speaks HTTP/1.1 \
        and HTTP/2 without encryption: for TLS, passwords or limits put a proxy in front of it. It stays in the foreground; \
        SIGTERM or Ctrl-C ends it when what is being sent has been sent, after 20 seconds at most. What is told of paths \
        is signed with the keys of '--secret-key-file' and of the setting 'secret-key-files', besides the signatures that \
        the store has.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: false,
        examples: &[
            ("kiln serve", "serve this machine's store at http://127.0.0.1:5000"),
            (
                "kiln serve --listen '[::]:5000' --secret-key-file /etc/nix/cache.sec",
                "to everybody who can reach this machine, signed",
            ),
            ("kiln serve --socket /run/kiln-serve/socket", "to a proxy on the same machine"),
        ],
        exit_codes: &[],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    command.args([
        Arg::new("listen")
            .long("listen")
            .value_name("ADDRESS:PORT")
            .action(ArgAction::Append)
            .help("Listen on this address; may be repeated; port 0 for any that is free"),
        Arg::new("socket")
            .long("socket")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Append)
            .help("Make this Unix socket and listen on it; may be repeated"),
        Arg::new("priority")
            .long("priority")
            .value_name("N")
            .default_value(USUAL_PRIORITY)
            .allow_negative_numbers(true)
            .value_parser(value_parser!(i64))
            .help("Where clients put this cache among others, lowest first"),
        Arg::new("secret-key-file")
            .long("secret-key-file")
            .value_name("FILE")
            .action(ArgAction::Append)
            .help("Sign with the secret key in this file; may be repeated"),
        Arg::new("compression")
            .long("compression")
            .value_name("HOW")
            .default_value("none")
            .value_parser(["none", "zstd"])
            .help("How archives are sent")
            .long_help(
                "How archives are sent: 'none' as they are, so that a transfer that broke off is gone on with, or 'zstd' \
                 as files that are compressed while they are sent, which begin anew.",
            ),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let mut files = session.settings.secret_key_files.clone();
    files.extend(invocation.values::<String>("secret-key-file"));
    let config = ServeConfig {
        priority: invocation.matches.get_one("priority").copied().unwrap_or_default(),
        coding: match invocation.text("compression") {
            Some("zstd") => ArchiveCoding::Zstd,
            _ => ArchiveCoding::Plain,
        },
        keys: files.iter().map(|file| secret_key(file)).collect::<Result<Arc<[_]>, Failure>>()?,
        limits: Limits::default(),
    };
    let server = Server::new(session.store.clone(), config, session.events.clone());
    session.wait(async {
        let end = interrupt::requested().doing(|| "listening for signals")?;
        let listener = listener(invocation).await?;
        let (store_dir, places) = (session.store_dir(), listener.places().join(", "));
        session.events.message(Verbosity::Notice, format!("serving all of '{store_dir}' at {places}"));
        server.serve(listener, end).await;
        Ok(0)
    })
}

async fn listener(invocation: &Invocation<'_>) -> Result<Listener, Failure> {
    let mut listener = Listener::new();
    let activation = Activation::detect(|name| invocation.environment.value(name))?;
    if let Some(activation) = activation {
        listener.add_activated(activation)?;
    }
    let (addresses, sockets) =
        (invocation.values::<String>("listen"), invocation.values::<PathBuf>("socket"));
    for address in &addresses {
        listener.add_address(address).await?;
    }
    for socket in &sockets {
        listener.add_socket(socket, SOCKET_MODE)?;
    }
    if activation.is_none() && addresses.is_empty() && sockets.is_empty() {
        listener.add_address(USUAL_ADDRESS).await?;
    }
    Ok(listener)
}

fn secret_key(file: &str) -> Result<SecretKey, Failure> {
    let doing = || format!("reading the secret key in '{file}'");
    let text = std::fs::read_to_string(file).doing(doing)?;
    text.trim_end().parse::<SecretKey>().doing(doing)
}
