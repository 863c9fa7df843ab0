//! A store on a disk that is recorded, the work that is done on it, and what is left of it after a loss of power.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_testing::{Ran, Recipe, RecordedDisk, Recording, SharedStore, missing, needs_root};

/// The disk's size: little, since it is copied for each loss of power, but more than the work needs.
const SIZE: usize = 32 << 20;

/// A journal without room for much, so that it is written to its place again and again, as on a disk in long use; no work in the background.
const FORMAT: [&str; 8] =
    ["-q", "-F", "-b", "4096", "-J", "size=4", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];

/// Names get to the disk without regard to what they name: ext4 promises no more than POSIX does then.
const MOUNT: &str = "loop,data=writeback,noauto_da_alloc,nodiscard";

/// Mounts a recorded disk, which replays the journal of its file system.
const MOUNTED: &str = r#"
    mount -i -t fuse -o fd=0,rootmode=100000,user_id=0,group_id=0 disk disk || exit 97
    exec </dev/null
    mount -o "$MOUNT" disk "$ROOT" || exit 98
"#;

/// The directories that real Nix is told to find there.
const DIRECTORIES: &str = r#"(cd "$ROOT" && mkdir store state log etc home && sync -f .) || exit 99"#;

/// What is done with a store, and what came of it.
pub(crate) struct Stage {
    store: SharedStore,
}

/// The work as it was recorded.
pub(crate) struct Recorded {
    pub(crate) disk: Recording,
    /// What was said to be valid, and when: how many writes and flushes there had been.
    pub(crate) acknowledged: Vec<(usize, String)>,
    /// When all was done, and the store closed.
    pub(crate) end: usize,
}

impl Stage {
    /// A place for a store; nothing, loudly, where there can't be one.
    pub(crate) fn set() -> Option<Self> {
        let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?
            .option("sandbox", "false")
            .option("gc-reserved-space", "4096")
            .option("experimental-features", "nix-command ca-derivations");
        if fs::metadata("/proc/self").is_ok_and(|status| status.uid() != 0) {
            needs_root("mount a file system whose disk is recorded");
            return None;
        }
        if !["/dev/fuse", "/dev/loop-control"].iter().all(|device| Path::new(device).exists()) {
            missing("/dev/fuse and loop devices");
            return None;
        }
        let mut recipe = Recipe::default();
        for (name, script) in [
            ("many", "mkdir $out $dev; for i in $(seq 100); do echo $i >$out/$i; done; echo same >$dev/file"),
            (
                "large",
                "mkdir -p $out/a/b; head -c 300000 /dev/zero | tr '\\0' x >$out/a/b/file; ln -s a/b $out/link",
            ),
            ("top", "mkdir $out; echo ${many} ${large} >$out/inputs; echo same >$out/file"),
            ("content", "mkdir $out; echo ${many.dev} >$out/file; echo same >$out/same"),
        ] {
            recipe = recipe.derivation(name, script);
            match name {
                "many" => recipe = recipe.with("outputs = [\"out\", \"dev\"]"),
                "content" => recipe = recipe.with(
                    "contentAddressed = true\noutputHashMode = \"recursive\"\noutputHashAlgo = \"sha256\"",
                ),
                _ => {}
            }
        }
        store.write("kiln.toml", recipe.text());
        fs::create_dir(store.directory().join("garbage")).unwrap();
        for number in 0..20 {
            store.write(&format!("garbage/{number}"), format!("garbage {number}\n"));
        }
        store.write("disk", "");
        Some(Self { store })
    }

    fn root(&self) -> PathBuf {
        self.store.nix().store_dir().parent().unwrap().to_owned()
    }

    fn kiln(&self, arguments: &[&str]) -> String {
        quoted(&self.store.kiln_command(arguments))
    }

    /// The work: what is built and added is said to be valid when a command ends. Collections are as by default, whatever is wanted of
    /// files.
    fn steps(&self, setting: Option<&str>) -> Vec<String> {
        let step = |arguments: &[&str]| match setting {
            Some(setting) => self.kiln(&[arguments, &["--option", setting, "true"]].concat()),
            None => self.kiln(arguments),
        };
        vec![
            step(&["build", "--out-link", "many", ":many"]),
            step(&["store", "add", "garbage"]),
            step(&["build", "--out-link", "top", ":top"]),
            step(&["store", "optimise", "--json"]),
            self.kiln(&["gc", "--json"]),
            step(&["build", "--out-link", "content", ":content", "--option", "auto-optimise-store", "true"]),
        ]
    }

    /// Does the work on a disk that is recorded, with a setting that brings files to it.
    pub(crate) fn record(&self, setting: Option<&str>) -> Recorded {
        let image = self.store.directory().join("image");
        File::create(&image).unwrap().set_len(SIZE as u64).unwrap();
        let made = Command::new("mkfs.ext4").args(FORMAT).arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let disk = RecordedDisk::new(fs::read(&image).unwrap()).unwrap();
        let mut script = format!("{DIRECTORIES}\n");
        for step in self.steps(setting) {
            script += &format!("{step} || exit 1\necho done\n");
        }
        script += "echo end\n";
        let mut working = self.on(&disk, &script).spawn().unwrap();
        let (mut acknowledged, mut told, mut end) = (Vec::new(), Vec::new(), 0);
        let store_dir = self.store.nix().store_dir().display().to_string();
        for line in BufReader::new(working.stdout.take().unwrap()).lines() {
            match line.unwrap() {
                line if line == "done" => {
                    // The garbage is not claimed to stay.
                    let kept = told.drain(..).filter(|path: &String| !path.ends_with("-garbage"));
                    acknowledged.extend(kept.map(|path| (disk.len(), path)));
                }
                line if line == "end" => end = disk.len(),
                line if line.starts_with(&store_dir) => told.push(line),
                _ => {}
            }
        }
        let ran = Ran::from(working);
        assert!(ran.code == Some(0) && end > 0, "{ran:?}");
        // The namespace of the mounts is gone with its last process, soon after.
        Recorded { disk: disk.finish(), acknowledged, end }
    }

    /// What is wrong with the store on a disk that the power was taken from, by what real Nix and Kiln say. What was acknowledged
    /// must be valid.
    pub(crate) fn damage(&self, disk: Vec<u8>, acknowledged: &[&str]) -> Vec<String> {
        let check = if acknowledged.is_empty() {
            "true".to_owned()
        } else {
            format!("nix-store --check-validity {}", acknowledged.join(" "))
        };
        let verify = "nix-store --verify --check-contents";
        let steps = [
            ("Nix verifies", verify.to_owned()),
            ("what was acknowledged is valid", check),
            ("Kiln verifies", self.kiln(&["store", "verify", "--check-contents"])),
            ("Kiln collects", self.kiln(&["gc"])),
            ("Kiln builds", self.kiln(&["build", "--no-link", ":top", ":content"])),
            ("Nix verifies again", verify.to_owned()),
        ];
        let mut script = String::new();
        for (name, step) in steps {
            script += &format!(
                "\n{step} >\"$OUTPUT\" 2>&1 || echo \"{name}: ended $?\"\n\
                 grep -E 'error|disappeared|modified|malformed' \"$OUTPUT\" | sed 's/^/{name}: /'\n"
            );
        }
        let disk = RecordedDisk::new(disk).unwrap();
        let ran = Ran::from(self.on(&disk, &format!("{script}true\n")).output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        disk.finish();
        ran.lines().into_iter().map(str::to_owned).collect()
    }

    /// A script in a mount namespace of its own where the store is on a disk, with the variables of the environment that both
    /// programs find the store by.
    fn on(&self, disk: &RecordedDisk, script: &str) -> Command {
        let nix = self.store.nix().command("nix-store");
        let script = format!("{MOUNTED}\n{script}");
        let mut on = Command::new("unshare");
        on.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env_clear();
        on.envs(nix.get_envs().filter_map(|(name, value)| Some((name, value?))));
        on.env("ROOT", self.root()).env("MOUNT", MOUNT).env("OUTPUT", self.store.directory().join("output"));
        on.current_dir(self.store.directory()).stdin(Stdio::from(disk.device().unwrap()));
        on.stdout(Stdio::piped()).stderr(Stdio::piped());
        on
    }
}

/// A command as words for a shell.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    words.map(quote).collect::<Vec<_>>().join(" ")
}
