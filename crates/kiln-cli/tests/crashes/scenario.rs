//! What the program does when it crashes.

use kiln_fs::FailPoint::{self, *};
use kiln_testing::Recipe;

/// A command, and what comes before it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) recipe: fn() -> Recipe,
    /// Settings, of Nix too.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// Whether builders have users of their own, where there are any.
    pub(crate) has_build_users: bool,
    pub(crate) arguments: &'static [&'static str],
    /// The exit code of the command.
    pub(crate) code: i32,
    /// The derivation is built before.
    pub(crate) is_built: bool,
    /// A file below the first output that is damaged before.
    pub(crate) damages: Option<&'static str>,
    /// A cache has the outputs, written by real Nix, and is believed.
    pub(crate) is_cached: bool,
    /// The fail points that it comes to.
    pub(crate) points: &'static [FailPoint],
}

pub(crate) static ALL: &[&Scenario] =
    &[&GRAPH, &ADDING, &ROUNDS, &CONTENT, &CHECK, &REPAIR, &MISMATCH, &FETCH, &REFETCH];

const PLAIN: Scenario = Scenario {
    name: "",
    recipe: graph,
    settings: &[("max-jobs", "3")],
    has_build_users: true,
    arguments: &["build", "--no-link", ":top"],
    code: 0,
    is_built: false,
    damages: None,
    is_cached: false,
    points: &[],
};

/// Several outputs that refer to each other, a source, a fixed output, and what needs all of them.
fn graph() -> Recipe {
    Recipe::default()
        .derivation(
            "lib",
            "mkdir $out $dev; echo lib >$out/lib; echo $out >$dev/path; ln -s $out/lib $dev/link; echo log of lib",
        )
        .with("outputs = [\"out\", \"dev\"]")
        .derivation("fetched", "echo lib >$out")
        .fixed("sha256-oyXcrLgLICoBS0ILk/wZBhkAAY+M4hbQoMsA1hDsf5c=", "flat")
        .derivation(
            "top",
            "cat ${source.data} ${fetched} >$out; cat ${lib.dev}/link >>$out; echo ${lib.dev} >>$out",
        )
        .with("[source.data]\npath = \"data\"")
}

pub(crate) static GRAPH: Scenario = Scenario {
    name: "graph",
    points: &[
        TempRootsMade,
        TempRootsAdded,
        PathLocked,
        TurnTaken,
        BuildDirectoryMade,
        BuildDirectoryLocked,
        ChrootMade,
        BuilderLaunched,
        BuilderStarted,
        BuilderEnded,
        OutputScanned,
        OutputMoved,
        BeforeTransaction,
        AfterTransaction,
        ProcessesGone,
    ],
    ..PLAIN
};

/// The same, at the points of what comes before and after builders.
pub(crate) static ADDING: Scenario = Scenario {
    name: "adding",
    points: &[
        BuildUserTaken,
        ScratchMade,
        ObjectMade,
        ObjectMoved,
        ScratchDone,
        TrashMade,
        TrashPut,
        TrashEmptied,
        DirectoriesDiscarded,
        LocksReleased,
        LockFileRemoved,
        LogMade,
        LogStored,
    ],
    ..PLAIN
};

pub(crate) static ROUNDS: Scenario = Scenario {
    name: "rounds",
    recipe: || {
        Recipe::default()
            .derivation("top", "echo $dev >$out; echo dev >$dev")
            .with("outputs = [\"out\", \"dev\"]")
    },
    settings: &[("repeat", "2")],
    points: &[
        OutputKept,
        RoundCleared,
        OutputMoved,
        BeforeTransaction,
        AfterTransaction,
        ProcessesGone,
        DirectoriesDiscarded,
    ],
    ..PLAIN
};

const FLOATING: &str = "contentAddressed = true\noutputHashMode = \"recursive\"\noutputHashAlgo = \"sha256\"";

pub(crate) static CONTENT: Scenario = Scenario {
    name: "content",
    recipe: || {
        Recipe::default()
            .derivation("lib", "mkdir $out; echo $out >$out/self; ln -s $out/self $dev")
            .with(FLOATING)
            .with("outputs = [\"out\", \"dev\"]")
            .derivation("top", "echo ${lib.dev} >$out; echo $out >>$out")
            .with(FLOATING)
    },
    settings: &[("experimental-features", "nix-command ca-derivations")],
    points: &[
        OutputRewritten,
        OriginalDeleted,
        PathLocked,
        OutputMoved,
        BeforeTransaction,
        AfterTransaction,
        RealisationsRecorded,
    ],
    ..PLAIN
};

/// Without a sandbox, builders make what is compared at other paths of the store, and it is rewritten.
pub(crate) static CHECK: Scenario = Scenario {
    name: "check",
    recipe: || {
        Recipe::default()
            .derivation("top", "mkdir $out; echo $out >$out/self; echo $out >$dev")
            .with("outputs = [\"out\", \"dev\"]")
    },
    settings: &[("sandbox", "false")],
    has_build_users: false,
    arguments: &["build", "--no-link", "--check", ":top"],
    is_built: true,
    points: &[BuilderStarted, BuilderEnded, OutputScanned, OutputRewritten, OriginalDeleted, ProcessesGone],
    ..PLAIN
};

pub(crate) static REPAIR: Scenario = Scenario {
    name: "repair",
    recipe: || {
        Recipe::default()
            .derivation("top", "mkdir $out $dev; echo file >$out/file; echo $out >$dev/path")
            .with("outputs = [\"out\", \"dev\"]")
    },
    arguments: &["build", "--no-link", "--repair", ":top"],
    is_built: true,
    damages: Some("file"),
    points: &[
        TurnTaken,
        OutputScanned,
        OutputExchanged,
        OutputMoved,
        BeforeTransaction,
        AfterTransaction,
        DirectoriesDiscarded,
    ],
    ..PLAIN
};

/// Nothing is built: a cache has everything.
pub(crate) static FETCH: Scenario = Scenario {
    name: "fetch",
    is_cached: true,
    points: &[
        TempRootsAdded,
        PathLocked,
        ScratchMade,
        ObjectMade,
        ObjectMoved,
        BeforeTransaction,
        AfterTransaction,
        ScratchDone,
        LockFileRemoved,
    ],
    ..PLAIN
};

/// What is damaged is had from a cache again.
pub(crate) static REFETCH: Scenario = Scenario {
    name: "refetch",
    is_cached: true,
    points: &[PathLocked, ScratchMade, ObjectMade, OutputExchanged, ObjectMoved, ScratchDone],
    ..REPAIR
};

pub(crate) static MISMATCH: Scenario = Scenario {
    name: "mismatch",
    recipe: || {
        Recipe::default()
            .derivation("top", "echo other >$out")
            .fixed("sha256-oyXcrLgLICoBS0ILk/wZBhkAAY+M4hbQoMsA1hDsf5c=", "flat")
    },
    code: 102,
    points: &[MismatchMoved, AfterTransaction, PathLocked],
    ..PLAIN
};
