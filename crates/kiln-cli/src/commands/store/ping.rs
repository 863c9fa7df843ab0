//! `kiln store ping`.

use clap::Arg;
use kiln_protocol::value::Trust;
use kiln_remote::{DaemonAddress, DaemonGreeting};
use kiln_settings::StoreUrl;
use kiln_store_path::StoreDir;
use kiln_substitute::open_substituter;
use serde_json::{Value, json};

use super::{Entry, Kind, Run};
use crate::daemon_store::usual_store_dir;
use crate::ends::{End, cache_of, surroundings};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Work;
use crate::{json, output};

pub(super) const ENTRY: Entry = Entry {
    name: "ping",
    purpose: "Look whether a store or binary cache can be used",
    description: "Opens a store, or asks a binary cache about itself, and prints what it is: its URL, its store directory, \
        and as a substituter its priority and whether it may be asked for many paths at once; of a daemon also its version, \
        that of the protocol, and whether it trusts this client.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                Arg::new("url")
                    .value_name("URL|DIR")
                    .help("Store or binary cache; otherwise that of '--store'"),
                json::argument(),
            ])
        },
        takes_settings: true,
        examples: &[
            ("kiln store ping", "the store that commands work on"),
            ("kiln store ping https://cache.nixos.org", "a binary cache"),
        ],
        exit_codes: &[("1", "also if it cannot be used")],
        run,
    }),
};

/// What a store or cache is.
struct Answer {
    url: String,
    store_dir: StoreDir,
    priority: i64,
    want_mass_query: bool,
    /// Of a daemon.
    daemon: Option<DaemonGreeting>,
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let work = Work::begin(invocation, invocation.settings()?)?;
    let url = invocation.text("url").or_else(|| cache_of(&work.settings));
    let answer = match End::parse(url, &work.settings, invocation)? {
        End::Store(settings) => {
            let (store, local) = End::open_to_read(&work, invocation, &settings)?;
            let priority = local.priority.map_or(0, |priority| i64::try_from(priority).unwrap_or(i64::MAX));
            let url = StoreUrl::Local(local).render();
            let store_dir = store.store_dir().clone();
            Answer { url, store_dir, priority, want_mass_query: true, daemon: None }
        }
        End::Daemon(address) => {
            let store = End::daemon(&work, invocation, *address);
            let greeting = work.wait(store.greeting())?;
            let DaemonAddress { store_dir, priority, name: url, .. } = store.address().clone();
            Answer { url, store_dir, priority, want_mass_query: true, daemon: Some(greeting) }
        }
        End::Cache(_) => {
            let store_dir = usual_store_dir(invocation.environment)?;
            let surroundings = surroundings(&work, invocation, store_dir.clone())?;
            let cache = open_substituter(url.unwrap_or_default(), &surroundings)?;
            let properties = work.wait(cache.properties())?;
            let (priority, want_mass_query) = (properties.priority, properties.want_mass_query);
            Answer { url: cache.name().to_owned(), store_dir, priority, want_mass_query, daemon: None }
        }
    };
    invocation.terminal.finish();
    output::print(if invocation.flag("json") { json::pretty(&answer.json()) } else { answer.readable() })?;
    Ok(0)
}

/// The version of the worker protocol, as people write it.
fn protocol(greeting: &DaemonGreeting) -> String {
    format!("1.{}", greeting.version.minor)
}

impl Answer {
    fn readable(&self) -> String {
        let Self { url, store_dir, priority, want_mass_query, daemon } = self;
        let asked = if *want_mass_query { "yes" } else { "no" };
        let mut text = format!(
            "Store URL: {url}\nStore directory: {store_dir}\nPriority: {priority}\nWants mass query: {asked}\n"
        );
        if let Some(greeting) = daemon {
            if let Some(version) = &greeting.nix_version {
                text += &format!("Version: {version}\n");
            }
            text += &format!("Protocol: {}\n", protocol(greeting));
            text += match greeting.trust {
                Trust::Trusted => "Trusted: yes\n",
                Trust::NotTrusted => "Trusted: no\n",
                Trust::Unknown => "",
            };
        }
        text
    }

    fn json(&self) -> Value {
        let mut answer = json!({
            "url": self.url,
            "storeDir": self.store_dir.to_string(),
            "priority": self.priority,
            "wantMassQuery": self.want_mass_query,
        });
        if let (Some(greeting), Some(answer)) = (&self.daemon, answer.as_object_mut()) {
            let mut put = |name: &str, value: Value| drop(answer.insert(name.to_owned(), value));
            put("version", greeting.nix_version.clone().into());
            put("protocol", protocol(greeting).into());
            put(
                "trusted",
                match greeting.trust {
                    Trust::Trusted => Value::Bool(true),
                    Trust::NotTrusted => Value::Bool(false),
                    Trust::Unknown => Value::Null,
                },
            );
        }
        answer
    }
}
