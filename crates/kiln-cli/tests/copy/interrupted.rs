//! Copies that are killed at any moment, and go on where they were.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::world::{CHAIN, World, check_cache};

/// How often a copy is killed.
const TIMES: u32 = 8;

#[test]
fn a_killed_copy_goes_on() {
    let Some(world) = World::with(CHAIN) else { return };
    let cache = world.cache("whole", "compression=xz");
    let began = Instant::now();
    world.copy(&["--to", &cache, &world.top]);
    let whole = began.elapsed();
    let all = check_cache(&world.place("whole"));
    assert_eq!(all, world.closure.len());

    let cache = world.cache("killed", "compression=xz");
    let mut most = 0;
    for number in 0..TIMES {
        let mut command = world.store.kiln_command(["copy", "--to", &cache, &world.top]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Moments that are spread over the time that a copy takes, in no order.
        std::thread::sleep(
            whole
                .mul_f64(f64::from(number * 7 % TIMES + 1) / f64::from(TIMES + 2))
                .min(Duration::from_secs(20)),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let now = check_cache(&world.place("killed"));
        assert!(now >= most, "nothing that was there is lost");
        most = now;
    }
    world.copy(&["--to", &cache, &world.top]);
    assert_eq!(check_cache(&world.place("killed")), all);
    assert!(!world.place("killed").join(".tmp").exists(), "what the killed ones left is gone");
    world.nix(&["store", "verify", "--store", &cache, "--no-trust", "--recursive", &world.top]);
}

#[test]
fn a_killed_copy_into_a_store_goes_on() {
    let Some(world) = World::with(CHAIN) else { return };
    let to = world.other_store("other");
    let arguments = ["copy", "--no-check-sigs", "--to", &to, &world.top];
    for number in 0..TIMES {
        let mut command = world.store.kiln_command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(60 + number * 23)));
        child.kill().unwrap();
        child.wait().unwrap();
        let valid =
            world.store.nix().output("nix", ["store", "verify", "--store", &to, "--no-trust", "--all"]);
        assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));
    }
    world.store.kiln(arguments).lines();
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("other", path));
    }
}
