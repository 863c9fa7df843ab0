//! Activities: things that take time, with the numbers and fields of Nix's logger.

use crate::text::Text;

/// The name of one activity, unique among those that one sink sees; [`ActivityId::NONE`] stands for "no parent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityId(pub u64);

impl ActivityId {
    /// No activity: the parent of those at the top.
    pub const NONE: ActivityId = ActivityId(0);

    /// Whether this is [`ActivityId::NONE`].
    #[must_use]
    pub fn is_none(self) -> bool {
        self == ActivityId::NONE
    }
}

/// One field of an activity or result (worker protocol: kind 0 integer, kind 1 string).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A non-negative integer.
    Int(u64),
    /// A byte string.
    Text(Text),
}

/// The number that says what kind of activity something is (Nix: `ActivityType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityType(pub u64);

impl ActivityType {
    /// Anything without a type of its own.
    pub const UNKNOWN: ActivityType = ActivityType(0);
    /// A store path is copied between stores.
    pub const COPY_PATH: ActivityType = ActivityType(100);
    /// A file is downloaded or uploaded.
    pub const FILE_TRANSFER: ActivityType = ActivityType(101);
    /// One run of the engine.
    pub const REALISE: ActivityType = ActivityType(102);
    /// The counter of path copies.
    pub const COPY_PATHS: ActivityType = ActivityType(103);
    /// The counter of builds.
    pub const BUILDS: ActivityType = ActivityType(104);
    /// One build.
    pub const BUILD: ActivityType = ActivityType(105);
    /// Equal files of the store are linked.
    pub const OPTIMISE_STORE: ActivityType = ActivityType(106);
    /// Store paths are compared with what is recorded of them.
    pub const VERIFY_PATHS: ActivityType = ActivityType(107);
    /// A store path is substituted.
    pub const SUBSTITUTE: ActivityType = ActivityType(108);
    /// A substituter is asked about a store path.
    pub const QUERY_PATH_INFO: ActivityType = ActivityType(109);
    /// The post-build hook runs.
    pub const POST_BUILD_HOOK: ActivityType = ActivityType(110);
    /// A build waits for a machine, a lock or a build user.
    pub const BUILD_WAITING: ActivityType = ActivityType(111);
    /// A source tree is fetched.
    pub const FETCH_TREE: ActivityType = ActivityType(112);
}

/// What goes on, with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Free text only (type 0).
    Unknown,
    /// A store path is copied (type 100).
    CopyPath {
        /// Full store path.
        path: Text,
        /// URI of the store that has it.
        source: Text,
        /// URI of the store that gets it.
        destination: Text,
    },
    /// A file is transferred (type 101).
    FileTransfer {
        /// Where from, or where to.
        url: Text,
    },
    /// One run of the engine (type 102).
    Realise,
    /// Counter of path copies (type 103).
    CopyPaths,
    /// Counter of builds (type 104).
    Builds,
    /// One build (type 105).
    Build {
        /// Full path of the derivation.
        drv: Text,
        /// URI of the remote builder, if it isn't this machine.
        machine: Option<Text>,
    },
    /// Hard-linking equal files (type 106).
    OptimiseStore,
    /// Comparing paths with their recorded hashes (type 107).
    VerifyPaths,
    /// Substituting a path (type 108).
    Substitute {
        /// Full store path.
        path: Text,
        /// URI of the substituter.
        substituter: Text,
    },
    /// Asking a substituter about a path (type 109).
    QueryPathInfo {
        /// Full store path.
        path: Text,
        /// URI of the substituter.
        uri: Text,
    },
    /// The post-build hook runs (type 110).
    PostBuildHook {
        /// Full path of the derivation.
        drv: Text,
    },
    /// A build waits; the text says for what (type 111).
    BuildWaiting {
        /// The derivation and its resolved form, where it waits for that one to be built.
        resolved: Option<(Text, Text)>,
    },
    /// A source tree is fetched (type 112).
    FetchTree,
    /// A type that is newer than this program; relayed as it is.
    Other {
        /// The type's number.
        activity_type: ActivityType,
        /// Its fields.
        fields: Vec<Field>,
    },
}

impl Activity {
    /// The type's number.
    #[must_use]
    pub fn activity_type(&self) -> ActivityType {
        match self {
            Activity::Unknown => ActivityType::UNKNOWN,
            Activity::CopyPath { .. } => ActivityType::COPY_PATH,
            Activity::FileTransfer { .. } => ActivityType::FILE_TRANSFER,
            Activity::Realise => ActivityType::REALISE,
            Activity::CopyPaths => ActivityType::COPY_PATHS,
            Activity::Builds => ActivityType::BUILDS,
            Activity::Build { .. } => ActivityType::BUILD,
            Activity::OptimiseStore => ActivityType::OPTIMISE_STORE,
            Activity::VerifyPaths => ActivityType::VERIFY_PATHS,
            Activity::Substitute { .. } => ActivityType::SUBSTITUTE,
            Activity::QueryPathInfo { .. } => ActivityType::QUERY_PATH_INFO,
            Activity::PostBuildHook { .. } => ActivityType::POST_BUILD_HOOK,
            Activity::BuildWaiting { .. } => ActivityType::BUILD_WAITING,
            Activity::FetchTree => ActivityType::FETCH_TREE,
            Activity::Other { activity_type, .. } => *activity_type,
        }
    }

    /// The fields, in the order that Nix's clients expect. (A build's two trailing ones must be 1 and 1: clients end
    /// themselves on anything else.)
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let text = |text: &Text| Field::Text(text.clone());
        match self {
            Activity::CopyPath { path, source, destination } => {
                vec![text(path), text(source), text(destination)]
            }
            Activity::FileTransfer { url } => vec![text(url)],
            Activity::Build { drv, machine } => {
                vec![
                    text(drv),
                    Field::Text(machine.clone().unwrap_or_default()),
                    Field::Int(1),
                    Field::Int(1),
                ]
            }
            Activity::Substitute { path, substituter } => vec![text(path), text(substituter)],
            Activity::QueryPathInfo { path, uri } => vec![text(path), text(uri)],
            Activity::PostBuildHook { drv } => vec![text(drv)],
            Activity::BuildWaiting { resolved: Some((drv, resolved)) } => vec![text(drv), text(resolved)],
            Activity::Other { fields, .. } => fields.clone(),
            Activity::Unknown
            | Activity::Realise
            | Activity::CopyPaths
            | Activity::Builds
            | Activity::OptimiseStore
            | Activity::VerifyPaths
            | Activity::BuildWaiting { resolved: None }
            | Activity::FetchTree => Vec::new(),
        }
    }

    /// The activity that a peer described by number and fields.
    ///
    /// Never fails: fields that don't fit their type make it [`Activity::Unknown`], so that whatever is relayed from
    /// here is well-formed (real clients end themselves on a build without its four fields).
    #[must_use]
    pub fn from_fields(activity_type: ActivityType, fields: Vec<Field>) -> Activity {
        use Field::{Int, Text as T};
        let mut fields = fields;
        match (activity_type, fields.as_mut_slice()) {
            (ActivityType::UNKNOWN, _) => Activity::Unknown,
            (ActivityType::COPY_PATH, [T(path), T(source), T(destination), ..]) => Activity::CopyPath {
                path: std::mem::take(path),
                source: std::mem::take(source),
                destination: std::mem::take(destination),
            },
            (ActivityType::FILE_TRANSFER, [T(url), ..]) => {
                Activity::FileTransfer { url: std::mem::take(url) }
            }
            (ActivityType::REALISE, _) => Activity::Realise,
            (ActivityType::COPY_PATHS, _) => Activity::CopyPaths,
            (ActivityType::BUILDS, _) => Activity::Builds,
            (ActivityType::BUILD, [T(drv), T(machine), Int(_), Int(_), ..]) => Activity::Build {
                drv: std::mem::take(drv),
                machine: Some(std::mem::take(machine)).filter(|machine| !machine.is_empty()),
            },
            (ActivityType::OPTIMISE_STORE, _) => Activity::OptimiseStore,
            (ActivityType::VERIFY_PATHS, _) => Activity::VerifyPaths,
            (ActivityType::SUBSTITUTE, [T(path), T(substituter), ..]) => {
                Activity::Substitute { path: std::mem::take(path), substituter: std::mem::take(substituter) }
            }
            (ActivityType::QUERY_PATH_INFO, [T(path), T(uri), ..]) => {
                Activity::QueryPathInfo { path: std::mem::take(path), uri: std::mem::take(uri) }
            }
            (ActivityType::POST_BUILD_HOOK, [T(drv), ..]) => {
                Activity::PostBuildHook { drv: std::mem::take(drv) }
            }
            (ActivityType::BUILD_WAITING, [T(drv), T(resolved), ..]) => {
                Activity::BuildWaiting { resolved: Some((std::mem::take(drv), std::mem::take(resolved))) }
            }
            (ActivityType::BUILD_WAITING, _) => Activity::BuildWaiting { resolved: None },
            (ActivityType::FETCH_TREE, _) => Activity::FetchTree,
            (
                ActivityType::COPY_PATH
                | ActivityType::FILE_TRANSFER
                | ActivityType::BUILD
                | ActivityType::SUBSTITUTE
                | ActivityType::QUERY_PATH_INFO
                | ActivityType::POST_BUILD_HOOK,
                _,
            ) => Activity::Unknown,
            (activity_type, _) => Activity::Other { activity_type, fields },
        }
    }

    /// The text that Nix shows for this activity where nothing more special is said; empty for those without any.
    #[must_use]
    pub fn default_text(&self) -> Text {
        let mut text = Vec::new();
        let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend_from_slice(part));
        match self {
            Activity::CopyPath { path, source, destination } => {
                add(&[b"copying path '", path.as_bytes(), b"'"]);
                if !is_local(source) {
                    add(&[b" from '", source.as_bytes(), b"'"]);
                }
                if !is_local(destination) {
                    add(&[b" to '", destination.as_bytes(), b"'"]);
                }
            }
            Activity::FileTransfer { url } => add(&[b"downloading '", url.as_bytes(), b"'"]),
            Activity::Build { drv, machine } => {
                add(&[b"building '", drv.as_bytes(), b"'"]);
                if let Some(machine) = machine {
                    add(&[b" on '", machine.as_bytes(), b"'"]);
                }
            }
            Activity::QueryPathInfo { path, uri } => {
                add(&[b"querying info about '", path.as_bytes(), b"' on '", uri.as_bytes(), b"'"]);
            }
            _ => {}
        }
        Text::from(text)
    }
}

/// Whether a store URI is one that Nix leaves out of "copying path" texts.
fn is_local(uri: &Text) -> bool {
    uri == "local" || uri == "daemon"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            any::<u64>().prop_map(Field::Int),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Field::Text(bytes.into()))
        ]
    }

    proptest! {
        /// Whatever a peer says, what we make of it says the same of itself when it is told on.
        #[test]
        fn relaying_is_stable(number in prop_oneof![Just(0), 99u64..115], fields in proptest::collection::vec(field(), 0..6)) {
            let activity = Activity::from_fields(ActivityType(number), fields);
            let again = Activity::from_fields(activity.activity_type(), activity.fields());
            prop_assert_eq!(again, activity);
        }
    }

    #[test]
    fn a_build_is_told_as_clients_assert_it() {
        let build = Activity::Build { drv: "/nix/store/x-a.drv".into(), machine: None };
        assert_eq!(build.activity_type(), ActivityType(105));
        assert_eq!(
            build.fields(),
            [Field::Text("/nix/store/x-a.drv".into()), Field::Text("".into()), Field::Int(1), Field::Int(1)]
        );
        assert_eq!(build.default_text(), "building '/nix/store/x-a.drv'");
        let remote = Activity::Build { drv: "d".into(), machine: Some("ssh://m".into()) };
        assert_eq!(remote.default_text(), "building 'd' on 'ssh://m'");
    }

    #[test]
    fn a_build_without_its_fields_is_no_build() {
        let broken = Activity::from_fields(ActivityType::BUILD, vec![Field::Text("d".into()), Field::Int(1)]);
        assert_eq!(broken, Activity::Unknown);
    }

    #[test]
    fn copies_name_only_the_far_ends() {
        let copy = |source: &str, destination: &str| {
            Activity::CopyPath { path: "P".into(), source: source.into(), destination: destination.into() }
                .default_text()
        };
        assert_eq!(copy("https://c", "local"), "copying path 'P' from 'https://c'");
        assert_eq!(copy("daemon", "ssh://m"), "copying path 'P' to 'ssh://m'");
        assert_eq!(copy("https://c", "ssh://m"), "copying path 'P' from 'https://c' to 'ssh://m'");
    }
}
