//! Slots shared among users and their clients, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use kiln_schedule::{Client, ClientId, Job, JobId, JobKind, Priority, Scheduler, Slots, UserId};
use proptest::prelude::*;

fn scheduler(builds: usize) -> Scheduler {
    Scheduler::new(Slots { builds, substitutions: 1 })
}

fn client(user: u64, builds: usize) -> Client {
    Client { user: UserId(user), builds }
}

fn build(id: JobId) -> Job {
    Job { id, kind: JobKind::Build, priority: Priority::plain(format!("{id:04}"), "p") }
}

#[test]
fn s4_the_user_for_whom_the_fewest_run_goes_first() {
    let mut scheduler = scheduler(2);
    scheduler.set_client(ClientId(1), client(1, 2));
    scheduler.set_client(ClientId(2), client(2, 2));
    let mut started: Vec<JobId> = Vec::new();
    for id in 0..10 {
        started.extend(scheduler.submit_for(ClientId(1), build(id)));
    }
    assert_eq!(started, [0, 1]);
    // Who comes later, with names that are later in the order, is not behind all of the first one's.
    for id in 100..104 {
        assert!(scheduler.submit_for(ClientId(2), build(id)).is_empty());
    }
    assert_eq!(scheduler.finish(0), [100]);
    assert_eq!(scheduler.finish(1), [2], "each has one again, and the order decides");
    assert_eq!(scheduler.finish(100), [101]);
}

#[test]
fn s4_a_second_client_gets_its_user_no_more() {
    let mut scheduler = scheduler(3);
    for (id, user) in [(1, 1), (2, 1), (3, 2)] {
        scheduler.set_client(ClientId(id), client(user, 3));
    }
    let mut started = Vec::new();
    for id in 0..3 {
        started.extend(scheduler.submit_for(ClientId(1), build(id)));
    }
    for id in 10..13 {
        scheduler.submit_for(ClientId(2), build(id));
        scheduler.submit_for(ClientId(3), build(id + 10));
    }
    assert_eq!(started, [0, 1, 2]);
    assert_eq!(scheduler.finish(0), [20], "the other user has none");
    assert_eq!(scheduler.finish(1), [10], "each user has one then, and the order decides");
    assert_eq!(scheduler.finish(10), [11]);
}

#[test]
fn s4_a_client_has_a_limit_of_its_own_and_brings_slots() {
    let mut scheduler = scheduler(1);
    scheduler.set_client(ClientId(1), client(1, 3));
    let mut running = Vec::new();
    for id in 0..5 {
        running.extend(scheduler.submit_for(ClientId(1), build(id)));
    }
    assert_eq!(running, [0, 1, 2], "the daemon's own limit is one, the client's three");
    scheduler.set_client(ClientId(2), client(2, 4));
    assert_eq!(scheduler.submit_for(ClientId(2), build(10)), [10]);
    assert!(scheduler.submit_for(ClientId(2), build(11)).is_empty(), "four slots in all");
    // When a client goes, so do the slots that it brought, but nothing that runs is ended.
    assert!(scheduler.remove_client(ClientId(2)).is_empty());
    assert_eq!(scheduler.running(), 4);
    assert!(scheduler.finish(0).is_empty());
    assert_eq!(scheduler.finish(10), [11], "what it left behind still gets its turn");
    assert_eq!(scheduler.finish(1), [3]);
}

#[test]
fn s4_a_client_without_slots_has_local_builds_one_at_a_time() {
    let mut scheduler = scheduler(4);
    scheduler.set_client(ClientId(1), client(1, 0));
    let local = |id| Job { kind: JobKind::LocalBuild, ..build(id) };
    assert!(scheduler.submit_for(ClientId(1), build(0)).is_empty());
    assert_eq!(scheduler.submit_for(ClientId(1), local(1)), [1]);
    assert!(scheduler.submit_for(ClientId(1), local(2)).is_empty());
    assert_eq!(scheduler.finish(1), [2]);
    assert_eq!(scheduler.set_client(ClientId(1), client(1, 2)), [0]);
}

/// What the model knows of a job.
struct Known {
    client: u64,
    duration: u64,
}

proptest! {
    #[test]
    fn in_virtual_time_nobody_starves_and_no_limit_is_passed(
        slots in 1_usize..5,
        clients in proptest::collection::vec((0_u64..3, 1_usize..5), 1..6),
        jobs in proptest::collection::vec((0_usize..6, 1_u64..20), 1..80),
    ) {
        let mut scheduler = scheduler(slots);
        for (id, (user, builds)) in (1..).zip(&clients) {
            scheduler.set_client(ClientId(id), client(*user, *builds));
        }
        let all_slots = clients.iter().map(|(_, builds)| *builds).max().unwrap_or(0).max(slots);
        let known: Vec<Known> = jobs
            .iter()
            .map(|(client, duration)| Known { client: (client % clients.len()) as u64 + 1, duration: *duration })
            .collect();
        let mut waiting: BTreeSet<usize> = BTreeSet::new();
        let mut running: BTreeSet<(u64, usize)> = BTreeSet::new();
        let mut ended = 0;
        let begin = |started: Vec<JobId>, now: u64, waiting: &mut BTreeSet<usize>, running: &mut BTreeSet<(u64, usize)>| {
            for id in started {
                let id = id as usize;
                waiting.remove(&id);
                running.insert((now + known[id].duration, id));
            }
            let mut of_client: BTreeMap<u64, usize> = BTreeMap::new();
            let mut of_user: BTreeMap<u64, usize> = clients.iter().map(|(user, _)| (*user, 0)).collect();
            for (_, id) in running.iter() {
                let client = known[*id].client;
                *of_client.entry(client).or_default() += 1;
                *of_user.entry(clients[client as usize - 1].0).or_default() += 1;
            }
            assert!(running.len() <= all_slots);
            for (client, count) in &of_client {
                assert!(*count <= clients[*client as usize - 1].1, "client {client} has {count}");
            }
            if running.len() < all_slots {
                for id in waiting.iter() {
                    let client = known[*id].client;
                    let has = of_client.get(&client).copied().unwrap_or(0);
                    assert_eq!(has, clients[client as usize - 1].1, "{id} waits though there is a slot for it");
                }
            }
        };
        for (id, job) in known.iter().enumerate() {
            waiting.insert(id);
            let started = scheduler.submit_for(ClientId(job.client), build(id as JobId));
            begin(started, 0, &mut waiting, &mut running);
        }
        while let Some((end, id)) = running.pop_first() {
            ended += 1;
            let started = scheduler.finish(id as JobId);
            begin(started, end, &mut waiting, &mut running);
        }
        prop_assert_eq!(ended, known.len());
    }
}
