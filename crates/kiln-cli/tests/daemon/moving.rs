//! From `nix-daemon` to Kiln and back, with the same store, socket and clients (docs/moving.md).

use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use kiln_testing::Daemon;

use crate::KILN;

/// Real Nix's daemon on the same store and socket; ended with this value.
struct NixDaemon(Child);

impl NixDaemon {
    fn start(daemon: &Daemon) -> Self {
        let mut command = daemon.nix().command("nix-daemon");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Self(child);
        daemon.wait_until("nix-daemon", || UnixStream::connect(daemon.socket()).is_ok());
        running
    }
}

impl Drop for NixDaemon {
    fn drop(&mut self) {
        kiln_testing::signal("TERM", self.0.id());
        let _ = self.0.wait();
    }
}

#[test]
fn the_way_there_and_back() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    let mut made = {
        let _nix = NixDaemon::start(&daemon);
        daemon.build(&["a"])
    };
    daemon.start(&[]);
    // What Nix has built is valid, and is built upon.
    assert_eq!(daemon.build(&["a"]), made);
    made.extend(daemon.build(&["b"]));
    assert_eq!(daemon.stop(), Some(0));
    {
        let _nix = NixDaemon::start(&daemon);
        assert_eq!(daemon.build(&["a", "b"]), made);
        made.extend(daemon.build(&["lines"]));
        for path in &made {
            assert_eq!(daemon.run("nix-store", ["--check-validity", path]).lines(), Vec::<&str>::new());
        }
    }
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}
