//! Private networks, of which a build may get one that another has left untouched.

use std::collections::BTreeSet;

use kiln_sandbox::*;

use crate::support::*;

const BUILDS: usize = 8;

/// Which network a build had that did this besides.
fn network_of(builder: RunningBuilder) -> u64 {
    let outcome = finish(builder);
    let line = outcome.assert_success().log.lines().find_map(|line| line.strip_prefix("network "));
    let network = line.unwrap().parse().unwrap();
    assert_ne!(network, 0, "the kernel does not tell networks apart");
    network
}

/// The networks of builds that follow each other, each of which does this behind this filter.
fn networks(words: &[&str], filter: SystemCallFilter) -> BTreeSet<u64> {
    let launcher = start_launcher();
    let words: Vec<_> = words.iter().copied().chain(["network"]).collect();
    let launch = |_| {
        let world = World::new();
        let plan = LaunchPlan { system_calls: filter, ..world.plan(&words) };
        network_of(launcher.launch(&plan).unwrap())
    };
    (0..BUILDS).map(launch).collect()
}

#[test]
fn x2_a_network_that_was_used_is_never_another_builds() {
    for words in [["loopback"], ["datagram=127.0.0.1"], ["datagram=8.8.8.8"]] {
        assert_eq!(networks(&words, SystemCallFilter::Strict).len(), BUILDS, "{words:?}");
    }
}

#[test]
fn x2_without_the_whole_filter_every_network_is_new() {
    for filter in [SystemCallFilter::StrictWithSocketcall, SystemCallFilter::Off] {
        assert_eq!(networks(&[], filter).len(), BUILDS, "{filter:?}");
    }
}

#[test]
fn x2_a_network_that_nobody_used_is_not_made_again() {
    if !needs_root("giving a network to several builds") {
        return;
    }
    // One is in use while the process for the next build is created.
    assert!(networks(&[], SystemCallFilter::Strict).len() <= BUILDS / 2);
}

#[test]
fn x2_builds_at_the_same_time_have_networks_of_their_own() {
    let launcher = start_launcher();
    for _ in 0..2 {
        let worlds = [World::new(), World::new(), World::new()];
        let start = |world: &World| launcher.launch(&world.plan(&["sleep=300", "network"])).unwrap();
        let builders = worlds.each_ref().map(start);
        let networks: BTreeSet<_> = builders.into_iter().map(network_of).collect();
        assert_eq!(networks.len(), worlds.len());
    }
}
