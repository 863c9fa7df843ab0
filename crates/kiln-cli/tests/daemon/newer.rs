//! Clients of newer releases of Nix, whom `scripts/newer-nix` has to bring: what they are answered is compared with what their
//! own daemon answers.

mod over_ssh;
mod same_answers;
mod streams;
mod together;
mod untrusted;

use kiln_testing::{Daemon, NewerNix};

use super::KILN;

const MORE: &str = include_str!("newer/more.nix");

/// A daemon of Kiln's with more settings, and with all that is evaluated beside it.
fn daemon(settings: &str) -> Option<Daemon> {
    daemon_with(settings, &[])
}

/// The same, started with more arguments.
fn daemon_with(settings: &str, arguments: &[&str]) -> Option<Daemon> {
    let mut daemon = Daemon::find(KILN)?;
    daemon.configure(settings);
    let home = |name: &str| format!("root/home/{name}");
    std::fs::copy(daemon.path("default.nix"), daemon.path(&home("default.nix"))).unwrap();
    daemon.write(&home("more.nix"), MORE);
    std::fs::create_dir(daemon.path(&home("tree"))).unwrap();
    for file in ["one", "left-out"] {
        daemon.write(&home(&format!("tree/{file}")), file);
    }
    daemon.start(arguments);
    Some(daemon)
}

/// Tests with each release, all of them at the same time.
fn each_release(test: impl Fn(&NewerNix) + Sync) {
    std::thread::scope(|scope| {
        for nix in NewerNix::find() {
            let test = &test;
            scope.spawn(move || test(&nix));
        }
    });
}
