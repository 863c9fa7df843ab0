//! Machines that builds are sent to: whether they can be reached, and whether they trust this user.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kiln_events::EventSender;
use kiln_hook::Reach;
use kiln_protocol::value::Trust;
use kiln_protocol::worker::request::SetOptions;
use kiln_remote::{DaemonPlace, RemoteStore};
use kiln_settings::{RemoteMachine, parse_machines};
use kiln_store_path::StoreDir;

use super::{Facts, Finding};
use crate::ends::surroundings;
use crate::{build_hook, configuration};

const AREA: &str = "Machines";

/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects to all of them at once.
pub(super) fn examine(facts: &Facts<'_>) -> Vec<Finding> {
    let settings = facts.settings();
    let machines = match parse_machines(&settings.builders, &settings.system, &configuration::read) {
        Ok(machines) => machines,
        Err(error) => {
            let advice = "correct 'builders', or the file that it names; until then all is built here";
            return vec![Finding::problem(AREA, error.to_string()).advise(advice)];
        }
    };
    if machines.is_empty() {
        return vec![Finding::ok(AREA, "there are none ('builders'): what is built is built here")];
    }
    if settings.build_hook.is_empty() {
        let text = "no builds are sent to them, since there is no 'build-hook'";
        return vec![Finding::warning(AREA, text).advise("delete the setting to have Kiln's own")];
    }
    let store_dir = &facts.locations.store_dir;
    let reach = surroundings(facts.work, facts.invocation, store_dir.clone())
        .and_then(|surroundings| build_hook::reach(&surroundings));
    match reach {
        Ok(reach) => {
            let asking = machines.iter().map(|machine| ask(machine, &reach, store_dir));
            facts.work.wait(join_all(asking))
        }
        Err(failure) => vec![Finding::problem(AREA, failure.message())],
    }
}

async fn ask(machine: &RemoteMachine, reach: &Reach, store_dir: &StoreDir) -> Finding {
    let name = &machine.store_url;
    let address = match reach.address(machine, store_dir) {
        Ok(address) => address,
        Err(error) => return Finding::problem(AREA, error.to_string()).advise("correct it in 'builders'"),
    };
    // Its store would be made.
    if matches!(address.place, DaemonPlace::Program { .. }) {
        return Finding::ok(AREA, format!("'{name}' is a store of this machine"));
    }
    let begin = Instant::now();
    let store = RemoteStore::new(address, SetOptions::default(), EventSender::null());
    let greeting = match tokio::time::timeout(PATIENCE, store.greeting()).await {
        Ok(greeting) => greeting.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it has not answered within {} s", PATIENCE.as_secs())),
    };
    match greeting {
        Ok(greeting) if greeting.trust == Trust::NotTrusted => {
            let text = format!("'{name}' does not trust this user: it takes no inputs that are not signed");
            Finding::warning(AREA, text).advise("add the user who logs in there to its 'trusted-users'")
        }
        Ok(greeting) => {
            let took = begin.elapsed().as_millis();
            let version = greeting.nix_version.map(|version| format!(" (Nix {version})")).unwrap_or_default();
            Finding::ok(AREA, format!("'{name}' answers after {took} ms{version}"))
        }
        // Builds go on without it, so that it is no problem.
        Err(reason) => Finding::warning(AREA, format!("'{name}' cannot be used: {reason}"))
            .advise("try 'ssh' to it without questions ('-oBatchMode=yes'), as the user whose daemon builds"),
    }
}
