//! The behaviours, in groups, and which of them are there.

/// Behaviours of one part of the engine.
pub(crate) struct Group {
    /// What the names of its behaviours begin with.
    pub(crate) letter: char,
    /// What it is about.
    pub(crate) title: &'static str,
    /// Its behaviours, numbered from 1.
    pub(crate) behaviours: &'static [Behaviour],
}

/// One behaviour.
pub(crate) struct Behaviour {
    /// Its name: `S12`.
    pub(crate) id: &'static str,
    /// What it is, in a line.
    pub(crate) what: &'static str,
    /// Whether it is there.
    pub(crate) state: State,
}

/// How much of a behaviour is there. All must have a test.
pub(crate) enum State {
    /// It is: nothing is known that it lacks.
    Whole,
    /// It is, but lacks this.
    Part(&'static str),
}

/// What names of tests begin with and is no behaviour, and what it is.
pub(crate) const NO_BEHAVIOURS: &[(&str, &str)] =
    &[("x86", "the architecture"), ("s57", "the limits on what clients may set")];

const fn whole(id: &'static str, what: &'static str) -> Behaviour {
    Behaviour { id, what, state: State::Whole }
}

const fn part(id: &'static str, what: &'static str, lacks: &'static str) -> Behaviour {
    Behaviour { id, what, state: State::Part(lacks) }
}

/// All behaviours.
pub(crate) const GROUPS: &[Group] = &[
    Group { letter: 'S', title: "Scheduling", behaviours: SCHEDULING },
    Group { letter: 'D', title: "The way of a derivation", behaviours: DERIVATION },
    Group { letter: 'B', title: "The builder's world", behaviours: BUILDER },
    Group { letter: 'X', title: "The sandbox on Linux", behaviours: LINUX },
    Group { letter: 'M', title: "The sandbox on macOS", behaviours: MACOS },
    Group { letter: 'O', title: "Outputs", behaviours: OUTPUTS },
    Group { letter: 'L', title: "Logs", behaviours: LOGS },
    Group { letter: 'G', title: "Substitution", behaviours: SUBSTITUTION },
    Group { letter: 'H', title: "The build hook", behaviours: HOOK },
    Group { letter: 'R', title: "Requests", behaviours: REQUESTS },
];

const SCHEDULING: &[Behaviour] = &[
    whole("S1", "A thing has one goal, however many want it; whoever wants more of it widens that goal"),
    whole(
        "S2",
        "A goal ends in one of several ways, and whoever waits for it learns how many of its dependencies ended badly",
    ),
    whole(
        "S3",
        "What could go next goes in an order: first what the longest way is left after, by how long builds took before, then by name",
    ),
    whole(
        "S4",
        "No more builds than 'max-jobs' run at once, but one that must be local always may; substitutions are counted apart",
    ),
    whole("S5", "The first failure ends a request, unless 'keep-going' finishes what does not depend on it"),
    whole(
        "S6",
        "Who finds outputs locked by another process waits for the lock, then looks whether they are valid",
    ),
    whole("S7", "Builds that are silent or run for too long are killed and have timed out"),
    whole("S8", "Builds that print more than 'max-build-log-size' are killed"),
    whole("S9", "Garbage is collected while builds run, when space gets short"),
    whole(
        "S10",
        "How many builds, substitutions and bytes are expected, running, done and failed is told as it changes",
    ),
    whole(
        "S11",
        "If nothing can run at all, that is an error, said before anything starts where it is known by then",
    ),
    whole(
        "S12",
        "An interrupt kills all builders of a request and leaves nothing locked, half-made or valid by mistake",
    ),
    whole("S13", "The exit code of a failed request tells what kinds of failures there were"),
    whole("S14", "A hundred thousand goals cost hardly more than linear time, and no goal holds up another"),
];

const DERIVATION: &[Behaviour] = &[
    whole(
        "D1",
        "A derivation is loaded from the store, or comes with the request by value, and is protected from collection",
    ),
    whole("D2", "What is valid already is not built; a repair looks at the contents too"),
    whole("D3", "Outputs are substituted if that is allowed"),
    whole("D4", "Inputs are made valid first, and one that fails is the failure of what needs it"),
    whole("D5", "Builders see the closure of their inputs, and outputs may refer to it and to each other"),
    whole(
        "D6",
        "All outputs are locked together and looked at again; only those that are missing are taken, leftovers go first",
    ),
    whole("D7", "The build hook is asked first where to build"),
    whole("D8", "A build that this machine cannot do is refused with what it wants and what the machine has"),
    whole("D9", "A start that fails is the derivation's fault or the machine's, and its status says whose"),
    whole("D10", "That a build starts is told"),
    whole(
        "D11",
        "A build ends with its builder; what is left of its processes is killed, and half-made outputs go",
    ),
    whole("D12", "Each build ends in one of Nix's statuses, with its times"),
    whole("D13", "Builds are repeated and their rounds compared"),
    whole("D14", "What is valid is built again and compared"),
    whole("D15", "What is corrupt is replaced, down to the closure"),
    whole("D16", "The diff hook is run on outputs that differ"),
    whole("D17", "The pre-build hook adds to what the sandbox shows"),
    whole("D18", "The post-build hook is run after registration"),
    whole("D19", "'keep-failed' keeps the build directory of what did not succeed, readable for the user"),
    whole("D20", "An error ends its own goal and not the whole request"),
];

const BUILDER: &[Behaviour] = &[
    whole("B1", "The environment is made from nothing, in an order in which later ones win"),
    whole(
        "B2",
        "Placeholders of outputs become their paths in variables, arguments and files, as do redirected hash parts",
    ),
    whole("B3", "'passAsFile' puts variables into files"),
    whole("B4", "Structured attributes come as JSON and as declarations for bash"),
    whole("B5", "'exportReferencesGraph' gives the closures of inputs, and of nothing else"),
    whole("B6", "The build directory is fresh, and only its builder can reach it"),
    whole(
        "B7",
        "Each build has a user of its own from the group of build users, whose processes are killed before and after, or ids without accounts",
    ),
    whole("B8", "Output goes to a raw terminal that controls nobody; there is no input"),
    whole(
        "B9",
        "The process begins with nothing inherited, fixed limits and addresses, and the wanted personality",
    ),
    whole(
        "B10",
        "Arguments begin with the builder's name; what cannot be executed has failed and is no error of the start",
    ),
    whole(
        "B11",
        "The built-in builders make what Nix's make, with the builder's rights in the builder's world",
    ),
    whole("B12", "What fails while the builder's world is set up is told with the step that failed"),
    whole("B13", "Hashes are rewritten where an output cannot be built in its place"),
];

const LINUX: &[Behaviour] = &[
    whole("X1", "'sandbox' decides what runs in one; a diverted store always needs it"),
    whole(
        "X2",
        "Builders have namespaces of their own, with ids and names that are the same everywhere, and lose them never silently; fixed outputs have a network that is connected with the world alone",
    ),
    whole("X3", "The root is fresh and holds just the closure of the inputs, which cannot be written to"),
    whole("X4", "Devices are a few harmless ones"),
    whole("X5", "Fixed outputs find what resolving names takes, and no sockets of the host"),
    whole("X6", "'sandbox-paths' shows paths of the host, with the closure of those in the store"),
    whole("X7", "'__impureHostDeps' must be allowed, and tells nothing about what is there"),
    whole("X8", "The host's root is gone before the builder starts"),
    whole(
        "X9",
        "System calls that make set-id files or attributes, or reach into the kernel, are refused on every ABI",
    ),
    whole(
        "X10",
        "Paths that were not declared, files and processes of the host, and other builds are out of sight",
    ),
    whole("X11", "Files that builders read are the same everywhere, byte for byte"),
    part("X12", "Where there can be no sandbox, that is said", "a use: Kiln builds on Linux only"),
];

const MACOS: &[Behaviour] = &[
    part(
        "M1",
        "The profile of the sandbox follows from the plan alone",
        "a use in the engine: Kiln builds on Linux only",
    ),
    part("M2", "A builder is run under that profile", "a use in the engine: Kiln builds on Linux only"),
];

const OUTPUTS: &[Behaviour] = &[
    whole(
        "O1",
        "Each output must be there, and is moved to the store when every process of the build is gone",
    ),
    whole("O2", "Outputs that others own or can write to are refused"),
    whole("O3", "A fixed output has the hash that is stated, and is kept under another path if not"),
    whole("O4", "Outputs become canonical: owner, modes, time, types, no attributes"),
    whole("O5", "References are found wherever they are, in the one reading that also hashes"),
    whole("O6", "References, closures and sizes are checked as the derivation wants it"),
    whole("O7", "All outputs are registered at once, with all that is known of them, signed"),
    whole("O8", "Duplicate files are linked to each other as outputs come in"),
];

const LOGS: &[Behaviour] = &[
    whole("L1", "Logs are kept where Nix looks for them, as they came"),
    whole(
        "L2",
        "Lines end and are overwritten as on a terminal, the last ones are kept for errors, and of rounds those of the \
            first are shown",
    ),
    whole("L3", "Builders may tell of their progress in records, and do no harm by them"),
    whole("L4", "What controls a terminal is taken out of logs"),
];

const SUBSTITUTION: &[Behaviour] = &[
    whole("G1", "A path that is wanted is protected from collection, and nothing is done if it is valid"),
    whole("G2", "Substituters are asked in the order of their priority"),
    whole("G3", "What nobody trusted has signed is not taken"),
    whole("G4", "References come first, so that the store is closed at every moment"),
    whole("G5", "Contents are checked as they come, and only then registered"),
    whole("G6", "Metadata of whole closures is asked for at once, and downloads resume"),
    whole("G7", "What is expected and done is counted by the sizes that substituters state"),
];

const HOOK: &[Behaviour] = &[
    whole("H1", "One hook is kept waiting and asked for each derivation"),
    whole("H2", "A hook that accepts gets the inputs and the outputs that are missing"),
    whole("H3", "The death of a hook is survived, and its exit code tells how a build failed"),
    whole("H4", "What the hook registered is not registered again"),
    whole("H5", "There is a hook of our own, and that of an installed Nix can be used"),
];

const REQUESTS: &[Behaviour] = &[
    whole("R1", "Derivations and paths are made valid together, after it was said what that takes"),
    whole("R2", "A derivation can be given by value, and then its failure is a result"),
    whole("R3", "A path is made valid, or it is said that it cannot be had"),
    whole("R4", "A path is repaired"),
];
