//! The same derivations, built by real Nix and by the builtins.

use crate::archives::{bzip2, gzip, xz, zstd};
use crate::bench::{Bench, tree};
use crate::server::{Server, answer};
use crate::unpack;
use kiln_hash::Sha256;
use kiln_testing::{NixPeer, ScratchDirectory};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// Packages that have something to say to each other, and environments of them.
const ENVIRONMENTS: &str = r#"
let
  package = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
    args = [ "-c" "mkdir $out; cd $out; ${script}" ];
  };
  a = package "a" ''
    mkdir -p bin lib/deep/er nix-support lib/log info share/doc; echo a > bin/x; echo a > lib/deep/er/a; ln -s bin sbin
    echo > manifest.json; echo > manifest.nix; echo > log; echo > .hidden; echo > info/dir; echo > info/a.info
    ln -s /nonexistent dangling; echo > lib/perllocal.pod; echo > propagated-build-inputs; ln -s ../lib/deep share/deep
  '';
  b = package "b" ''
    mkdir -p bin sbin lib/deep/er share/deep; echo b > bin/x; echo b > sbin/y; echo b > lib/deep/er/b; echo > info
    echo b > share/deep/b; rm info; ln -s ${a}/share/doc share/doc
  '';
  c = package "c" "mkdir -p nix-support share; echo ' ${d} ${a}' > nix-support/propagated-user-env-packages; echo > share/c";
  d = package "d" "mkdir -p nix-support bin; echo ${b} > nix-support/propagated-user-env-packages; echo > bin/x";
  onlyDir = package "only-dir" "mkdir -p bin/x; echo > bin/x/y";
  alsoDir = package "also-dir" "mkdir -p bin/x; echo > bin/x/z";
  file = derivation { name = "file"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; };
  environment = derivations: derivation {
    name = "environment"; system = "builtin"; builder = "builtin:buildenv"; manifest = "/the/manifest"; inherit derivations;
  };
in {
  plain = environment "true 5 1 ${a}";
  merged = environment "true 5 1 ${a} true 6 1 ${b} false 1 1 ${d}";
  reversed = environment "true 6 1 ${a} true 5 1 ${b}";
  propagated = environment "true 5 1 ${c}";
  two = environment "true 5 2 ${c} ${b} true 7 1 ${a}";
  notADirectory = environment "true 5 2 ${file} ${b}";
  none = environment "";
  samePriority = environment "true 5 1 ${b} true 5 1 ${a}";
  directoryOverFile = environment "true 5 1 ${b} true 6 1 ${onlyDir}";
  fileOverLink = environment "true 4 1 ${onlyDir} true 5 1 ${a}";
  fileOverDirectory = environment "true 4 2 ${onlyDir} ${alsoDir} true 5 1 ${a}";
  absent = environment "true 5 1 /nonexistent/package";
}
"#;

struct Peer {
    nix: NixPeer,
    scratch: ScratchDirectory,
}

impl Peer {
    fn find() -> Option<Self> {
        let scratch = ScratchDirectory::new();
        let nix = NixPeer::find(scratch.path())?;
        Some(Self { nix, scratch })
    }

    /// Builds an attribute of an expression: the output, or what Nix says.
    fn build(&self, expression: &str, attribute: &str) -> Result<PathBuf, String> {
        let file = self.scratch.path().join("default.nix");
        std::fs::write(&file, expression).unwrap();
        let file = file.to_str().unwrap();
        let built = self.nix.output("nix-build", ["--no-out-link", file, "-A", attribute]);
        if built.status.success() {
            Ok(String::from_utf8(built.stdout).unwrap().trim().into())
        } else {
            Err(String::from_utf8(built.stderr).unwrap())
        }
    }

    /// An attribute of a derivation, as text.
    fn attribute(&self, expression: &str, path: &str) -> String {
        let file = self.scratch.path().join("attribute.nix");
        std::fs::write(&file, format!("({expression}).{path}")).unwrap();
        let value = self.nix.run("nix-instantiate", ["--eval", "--json", file.to_str().unwrap()]);
        // Store paths and numbers have nothing in them that JSON would escape.
        value.trim().trim_matches('"').to_owned()
    }
}

#[test]
fn b11_environments_are_those_of_nix() {
    let Some(peer) = Peer::find() else { return };
    for attribute in
        ["plain", "merged", "reversed", "propagated", "two", "notADirectory", "fileOverLink", "none"]
    {
        let made_by_nix = peer.build(ENVIRONMENTS, attribute).unwrap();
        let derivations = peer.attribute(ENVIRONMENTS, &format!("{attribute}.derivations"));
        let bench =
            Bench::new("buildenv").with("manifest", "/the/manifest").with("derivations", &derivations);
        bench.succeed();
        assert_eq!(bench.tree(), tree(&made_by_nix), "{attribute}");
        assert!(bench.tree().len() > 1);
    }
}

#[test]
fn b11_conflicts_are_told_as_nix_tells_them() {
    let Some(peer) = Peer::find() else { return };
    for attribute in ["samePriority", "directoryOverFile", "fileOverDirectory"] {
        let told_by_nix = peer.build(ENVIRONMENTS, attribute).unwrap_err();
        let derivations = peer.attribute(ENVIRONMENTS, &format!("{attribute}.derivations"));
        let bench =
            Bench::new("buildenv").with("manifest", "/the/manifest").with("derivations", &derivations);
        let told = bench.fail();
        // The one path in a message that isn't a package's is that of the output, which is elsewhere.
        let out = told_by_nix.split('\'').find(|path| path.ends_with("-environment/bin/x"));
        let told = told.replace(bench.out().join("bin/x").to_str().unwrap(), out.unwrap_or_default());
        assert!(told_by_nix.contains(&format!("error: {told}\n")), "{attribute}: {told}\n{told_by_nix}");
    }
    assert!(peer.build(ENVIRONMENTS, "absent").is_err());
}

#[test]
fn b11_channels_are_those_of_nix() {
    let Some(peer) = Peer::find() else { return };
    let scratch = peer.scratch.path();
    let made = Command::new("/bin/sh")
        .current_dir(scratch)
        .args([
            "-ec",
            "mkdir -p pkgs-1/lib/empty; cd pkgs-1; echo '{ }' > default.nix; echo > lib/run; chmod 750 lib/run; ln -s lib/run link; \
             ln default.nix hard; mkdir -p $(printf '%060d/' 1 2 3); echo deep > $(printf '%060d/' 1 2 3)file; ln -s $(printf '%0150d' 1) long; \
             cd ..; \
             tar cf gnu.tar --format=gnu pkgs-1; tar cf pax.tar --format=pax ./pkgs-1; tar cf ustar.tar --format=ustar --exclude=long pkgs-1",
        ])
        .status()
        .unwrap();
    assert!(made.success());
    let gnu = std::fs::read(scratch.join("gnu.tar")).unwrap();
    for (name, compressed) in
        [("gz", gzip(&gnu)), ("bz2", bzip2(&gnu)), ("xz", xz(&gnu)), ("zst", zstd(&gnu))]
    {
        std::fs::write(scratch.join(name), compressed).unwrap();
    }
    for archive in ["gnu.tar", "pax.tar", "ustar.tar", "gz", "bz2", "xz", "zst"] {
        let expression = format!(
            r#"{{ channel = derivation {{ name = "channel"; system = "builtin"; builder = "builtin:unpack-channel";
                 src = {}/{archive}; channelName = "name"; }}; }}"#,
            scratch.display()
        );
        let made_by_nix = peer.build(&expression, "channel").unwrap();
        let src = scratch.join(archive);
        let bench =
            Bench::new("unpack-channel").with("channelName", "name").with("src", src.to_str().unwrap());
        bench.succeed();
        assert_eq!(bench.tree(), tree(&made_by_nix), "{archive}");
        assert!(bench.tree().len() > 8, "{archive}");
    }
}

#[test]
fn b11_downloads_are_those_of_nix() {
    let Some(peer) = Peer::find() else { return };
    let (archive, _) = unpack::archive();
    let (head, tail) = kiln_nar::file_framing(true, 4);
    let program = [&head[..], b"text", &tail].concat();
    let server = Server::new(move |_, request, stream| {
        let body = if request.contains(" /tree.nar.xz ") { xz(&archive) } else { b"text".to_vec() };
        let _ = stream.write_all(&answer("200 OK", &[], &body));
    });
    let tree_hash = Sha256::of(unpack::archive().0).base16();
    for (path, hash, mode, unpack, executable) in [
        ("/tree.nar.xz", tree_hash, "recursive", "1", ""),
        ("/file", Sha256::of("text").base16(), "flat", "", ""),
        ("/program", Sha256::of(program).base16(), "recursive", "", "1"),
    ] {
        let url = server.url(path);
        let expression = format!(
            r#"{{ file = derivation {{ name = "file"; system = "builtin"; builder = "builtin:fetchurl"; url = "{url}";
                 outputHashAlgo = "sha256"; outputHash = "{hash}"; outputHashMode = "{mode}";
                 unpack = "{unpack}"; executable = "{executable}"; }}; }}"#
        );
        let made_by_nix = peer.build(&expression, "file").unwrap();
        let bench = Bench::fetchurl(&url).with("outputHash", &hash).with("outputHashMode", mode);
        let bench = bench.with("unpack", unpack).with("executable", executable);
        bench.succeed();
        assert_eq!(bench.tree(), tree(&made_by_nix), "{path}");
    }
}
