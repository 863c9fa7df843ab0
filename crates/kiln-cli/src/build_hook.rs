//! The build hook: called by an engine, of Kiln or of Nix, that looks for other machines. People don't call it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kiln_events::{EventSender, Verbosity};
use kiln_hook::{Here, Hook, Questions, Reach, Voice};
use kiln_protocol::hook::HookSetting;
use kiln_protocol::serve::request::BuildOptions;
use kiln_settings::{Configuration, Origin, Settings, parse_machines};
use kiln_store::LocalStore;
use kiln_substitute::{LookupCache, Surroundings, TimeToLive};
use kiln_sys::descriptors::copy_inherited;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::command_line::GlobalOptions;
use crate::environment::Environment;
use crate::failure::{Failure, While};
use crate::{configuration, store_config};

/// The name that the program was called by for this in Nix 2.8.
pub(crate) const NAME: &str = "build-remote";

/// The command for this since then.
pub(crate) const COMMAND: &str = "__build-remote";

/// Where what builders say goes to, and the other end of that, which belongs to hooks that let ssh write there.
const LOG: RawFd = 4;
const LOG_END: RawFd = 5;

/// How many pieces of a log may wait to be written.
const LOG_PIECES: usize = 16;

/// How long the engine may take to read the last of a log.
const LAST_OF_LOG: Duration = Duration::from_secs(60);

/// Settings of the engine that the daemon of a directory is not to have: it would look for machines, too.
const NOT_PASSED_ON: [&str; 5] = ["build-hook", "builders", "json-log-path", "max-jobs", "store"];

/// The command of the hook, as words: this program.
pub(crate) fn command() -> Vec<String> {
    let program =
        std::env::current_exe().ok().and_then(|program| program.into_os_string().into_string().ok());
    // The setting is text, words between blanks.
    match program.filter(|program| !program.contains(char::is_whitespace)) {
        Some(program) => vec![program, COMMAND.to_owned()],
        None => Vec::new(),
    }
}

/// Runs the hook with the words after its name, and returns what to exit with.
pub(crate) fn run(environment: &Environment, words: &[OsString]) -> u8 {
    // Before anything else has descriptors of these numbers.
    let log = copy_inherited(LOG).ok();
    // What is started here is not to have them.
    drop(copy_inherited(LOG_END));
    let verbosity = match words {
        [word] => word.to_str().and_then(|word| word.parse().ok()),
        _ => None,
    };
    let Some(verbosity) = verbosity else {
        eprintln!("{COMMAND}: called without required arguments: it is for 'build-hook', not for people");
        return 1;
    };
    let voice = Arc::new(Voice::new(Box::new(io::stderr()), Verbosity::from_number(verbosity)));
    let events = EventSender::with_first_id(voice.clone(), u64::from(std::process::id()) << 32 | 1);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .doing(|| "starting the runtime")
        .and_then(|runtime| {
            let served = runtime.block_on(until_engine_is_gone(serve(environment, voice, &events, log)));
            // Threads that wait, for a lock of another process say, are not waited for.
            runtime.shutdown_background();
            served
        });
    ended.unwrap_or_else(|failure| {
        if let Some(report) = failure.report() {
            events.error(report);
        }
        failure.exit_code()
    })
}

/// Gives up when nobody is at the other end of standard error: the engine has ended, and nobody wants the build.
async fn until_engine_is_gone(serving: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let (gone, is_gone) = oneshot::channel();
    let watching = move || {
        let stderr = io::stderr();
        let mut watched = [PollFd::new(&stderr, PollFlags::empty())];
        // That a pipe has lost its other end is always told.
        while poll(&mut watched, None) == Err(Errno::INTR) {}
        let _ = gone.send(());
    };
    std::thread::Builder::new().name("engine".to_owned()).spawn(watching).doing(|| "starting a thread")?;
    tokio::select! {
        served = serving => served,
        _ = is_gone => Ok(1),
    }
}

async fn serve(
    environment: &Environment,
    voice: Arc<Voice>,
    events: &EventSender,
    log: Option<OwnedFd>,
) -> Result<u8, Failure> {
    let input = copy_inherited(0).map_err(io::Error::from).and_then(pipe::Receiver::from_owned_fd);
    let mut questions = Questions::new(input.doing(|| "looking for the engine at standard input")?);
    let told = questions.settings().await?;
    let settings = of_engine(environment, &told)?;
    let config = store_config::of_this_machine(&settings, environment)?;
    let store = LocalStore::open(config, Arc::new(|_| {})).await?;
    let known = LookupCache::open(None, TimeToLive::default()).await?;
    let variables: BTreeMap<Vec<u8>, Vec<u8>> =
        environment.variables().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    let store_dir = store.store_dir().clone();
    let (mut surroundings, _) = kiln_build::surroundings(&settings, &variables, store_dir, known).await;
    // What the machines send was built for this engine.
    surroundings.trust.require_signatures = false;
    let (sender, pieces) = channel(LOG_PIECES);
    let writing = tokio::spawn(write_log(pieces, log));
    let hook = Hook {
        store,
        machines: parse_machines(&settings.builders, &settings.system, &configuration::read)?,
        reach: Reach { variables: vec![("NIX_CONFIG".into(), passed_on(&told))], ..reach(&surroundings)? },
        here: here(&settings),
        substitutes: settings.builders_use_substitutes,
        options: BuildOptions {
            max_silent_time: settings.max_silent_time,
            build_timeout: settings.timeout,
            max_log_size: settings.max_build_log_size,
            keep_failed: settings.keep_failed,
            ..BuildOptions::default()
        },
        surroundings,
        voice,
        events: events.clone(),
        log: sender,
    };
    let served = hook.serve(questions).await;
    let _ = timeout(LAST_OF_LOG, writing).await;
    Ok(served?)
}

/// How machines are reached. The daemon of a directory gets no settings of its own.
pub(crate) fn reach(surroundings: &Surroundings) -> Result<Reach, Failure> {
    Ok(Reach {
        // Nobody is here who could answer a question.
        ssh_options: Some(surroundings.ssh_options.clone().unwrap_or_default() + " -oBatchMode=yes"),
        daemon_socket: surroundings.daemon_socket.clone(),
        daemon: daemon()?,
        variables: Vec::new(),
    })
}

/// The engine's settings. What this program doesn't understand of them is left alone.
fn of_engine(environment: &Environment, told: &[HookSetting]) -> Result<Settings, Failure> {
    let mut configuration: Configuration =
        configuration::load(environment, &GlobalOptions::default(), &EventSender::null())?;
    for HookSetting { name, value } in told {
        if let Ok(value) = std::str::from_utf8(value) {
            let _ = configuration.set(name, value, Origin::CommandLine);
        }
    }
    Ok(configuration.into_settings())
}

/// What this machine could do itself.
fn here(settings: &Settings) -> Here {
    let systems = settings.extra_platforms.iter().chain([&settings.system]).cloned().collect();
    Here {
        builds: settings.max_jobs.resolve(1) > 0,
        systems,
        features: settings.system_features.iter().cloned().collect(),
    }
}

/// The program that serves a store to this process alone; its URL is to come.
fn daemon() -> Result<Vec<OsString>, Failure> {
    let program = std::env::current_exe().doing(|| "looking for this program")?;
    let words = ["daemon", "--stdio", "--force-trusted", "--store"].map(OsString::from);
    Ok([program.into_os_string()].into_iter().chain(words).collect())
}

/// The engine's settings as those of a daemon for one build, in the form of `nix.conf`.
fn passed_on(told: &[HookSetting]) -> OsString {
    let mut text = Vec::new();
    for HookSetting { name, value } in told {
        if !NOT_PASSED_ON.contains(&name.as_str()) && !value.contains(&b'\n') && !value.contains(&b'#') {
            text.extend_from_slice(&[name.as_bytes(), b" = ", value, b"\n"].concat());
        }
    }
    text.extend_from_slice(b"build-hook =\nbuilders =\nmax-jobs = 1\n");
    OsStr::from_bytes(&text).to_owned()
}

/// Writes what builders say, until nobody says anything any more.
async fn write_log(mut pieces: Receiver<Bytes>, log: Option<OwnedFd>) {
    let mut log = log.and_then(|log| pipe::Sender::from_owned_fd(log).ok());
    while let Some(piece) = pieces.recv().await {
        if let Some(open) = &mut log
            && open.write_all(&piece).await.is_err()
        {
            // Whoever doesn't want it doesn't keep the builder waiting.
            log = None;
        }
    }
}
