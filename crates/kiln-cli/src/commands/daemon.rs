//! `kiln daemon`: serves clients of Nix, on a socket or at standard input and output.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use kiln_daemon::{Daemon, DaemonConfig, Listener, TrustRule, WatchListener};
use kiln_remote::{DaemonAddress, DaemonPlace};
use kiln_store::StoreConfig;
use kiln_sys::listening::Activation;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::{configuration, daemon_store, interrupt, relay, store_config};

pub(super) const ENTRY: Entry = Entry {
    name: "daemon",
    purpose: "Serve Nix clients",
    description: "Serves clients that speak Nix's worker protocol: 'nix', 'nix-build', 'nix-store' and others, which need \
        not know that it is not Nix. It listens on the socket 'daemon-socket/socket' in the state directory, or on \
        those that systemd passes on, stays in the foreground, and ends in good order when it is asked to by SIGTERM or \
        Ctrl-C. With '--stdio' it serves the one client at its standard input and output, as 'ssh-ng://' stores want it. \
        Whom it trusts say the settings 'trusted-users' and 'allowed-users'. Started under the name 'nix-daemon', or as \
        'nix daemon', it is this command.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            ("kiln daemon", "serve the store of this machine"),
            ("kiln daemon --stdio", "serve the client at standard input and output"),
            (
                "kiln daemon --store ./scratch --max-jobs 4",
                "serve a store of its own; clients reach it with NIX_REMOTE=unix://SOCKET",
            ),
        ],
        exit_codes: &[],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    command.args([
        flag("stdio").help("Serve the client at standard input and output, and end with it"),
        flag("force-trusted")
            .help("Trust all clients")
            .overrides_with_all(["force-untrusted", "default-trust"]),
        flag("force-untrusted")
            .help("Trust no client")
            .overrides_with_all(["force-trusted", "default-trust"]),
        flag("default-trust")
            .help("Trust whom the settings say; the default")
            .overrides_with_all(["force-trusted", "force-untrusted"]),
        flag("process-ops")
            .help("With --stdio, work on the store rather than pass everything on to another daemon"),
        flag("daemon").hide(true).help("Without effect, for service files of Nix"),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let configuration =
        configuration::load(invocation.environment, invocation.global, &invocation.terminal.events)?;
    let settings = configuration.into_settings();
    let is_stdio = invocation.flag("stdio");
    let trust = trust_rule(invocation);
    if is_stdio
        && !invocation.flag("process-ops")
        && trust == TrustRule::Settings
        && let Some(DaemonAddress { place: DaemonPlace::Socket(socket), .. }) =
            daemon_store::address(&settings.store, invocation.environment)?
    {
        let stream =
            UnixStream::connect(&socket).doing(|| format!("connecting to '{}'", socket.display()))?;
        return relay::between_stdio_and(stream).map(|()| 0);
    }
    let store = store_config::of_this_machine(&settings, invocation.environment)?;
    let socket = socket(&store, invocation);
    // Where it was started is of no importance from here on, and could not be unmounted.
    std::env::set_current_dir("/").doing(|| "going to the directory '/'")?;
    let environment = invocation.environment.variables().collect();
    kiln_sys::heap::keep_little();
    let events = invocation.terminal.events.clone();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().doing(|| "starting the runtime")?;
    let served = runtime.block_on(async {
        let end = interrupt::requested().doing(|| "listening for signals")?;
        let listener = if is_stdio { None } else { Some(listener(&socket, invocation)?) };
        // Each client at standard input has a daemon of its own, of which there is nothing to watch.
        let places = if is_stdio { &[][..] } else { &settings.kiln_metrics_listen };
        let watch = WatchListener::bind(places).await?;
        let config = DaemonConfig { settings, store, environment, trust, watch };
        let daemon = Daemon::start(config, events).await?;
        match listener {
            Some(listener) => daemon.serve(listener, end).await,
            None => daemon.serve_stdio(end).await?,
        }
        Ok::<(), Failure>(())
    });
    // Threads that wait, for a lock of another process say, are not waited for.
    runtime.shutdown_background();
    served.map(|()| 0)
}

fn trust_rule(invocation: &Invocation<'_>) -> TrustRule {
    if invocation.flag("force-trusted") {
        TrustRule::Everybody
    } else if invocation.flag("force-untrusted") {
        TrustRule::Nobody
    } else {
        TrustRule::Settings
    }
}

fn socket(store: &StoreConfig, invocation: &Invocation<'_>) -> PathBuf {
    match invocation.environment.value("NIX_DAEMON_SOCKET_PATH").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => store.locations.state_dir.join("daemon-socket").join("socket"),
    }
}

fn listener(socket: &Path, invocation: &Invocation<'_>) -> Result<Listener, Failure> {
    match Activation::detect(|name| invocation.environment.value(name))? {
        Some(activation) => Ok(Listener::activated(activation)?),
        None => Ok(Listener::bind(socket)?),
    }
}
