//! What an activity has to say while it runs.

use crate::activity::{ActivityType, Field};
use crate::text::Text;

/// Something that an activity reports (Nix: `ResultType` and its fields).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivityResult {
    /// A file was replaced by a hard link (type 100).
    FileLinked {
        /// Bytes saved.
        bytes: u64,
        /// 512-byte blocks saved.
        blocks: u64,
    },
    /// A line of a builder's log, without its newline (type 101).
    BuildLogLine(Text),
    /// A path without a trusted signature (type 102).
    UntrustedPath(Text),
    /// A path whose contents aren't what is recorded (type 103).
    CorruptedPath(Text),
    /// A build entered a phase (type 104).
    SetPhase(Text),
    /// How far the activity is, in its own unit: builds, paths or bytes (type 105).
    Progress {
        /// Finished.
        done: u64,
        /// Wanted in all.
        expected: u64,
        /// Under way.
        running: u64,
        /// Failed.
        failed: u64,
    },
    /// How much of another type of activity is to be expected below this one (type 106).
    SetExpected {
        /// The other type.
        activity_type: ActivityType,
        /// How much: bytes for transfers and copies, else a number of activities.
        expected: u64,
    },
    /// A line of the post-build hook's output (type 107).
    PostBuildLogLine(Text),
    /// What a fetch is at (type 108).
    FetchStatus(Text),
    /// A type that is newer than this program; relayed as it is.
    Other {
        /// The type's number.
        result_type: u64,
        /// Its fields.
        fields: Vec<Field>,
    },
}

impl ActivityResult {
    /// The type's number.
    #[must_use]
    pub fn result_type(&self) -> u64 {
        match self {
            ActivityResult::FileLinked { .. } => 100,
            ActivityResult::BuildLogLine(_) => 101,
            ActivityResult::UntrustedPath(_) => 102,
            ActivityResult::CorruptedPath(_) => 103,
            ActivityResult::SetPhase(_) => 104,
            ActivityResult::Progress { .. } => 105,
            ActivityResult::SetExpected { .. } => 106,
            ActivityResult::PostBuildLogLine(_) => 107,
            ActivityResult::FetchStatus(_) => 108,
            ActivityResult::Other { result_type, .. } => *result_type,
        }
    }

    /// The fields, in the order that Nix's clients expect.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        match self {
            ActivityResult::FileLinked { bytes, blocks } => vec![Field::Int(*bytes), Field::Int(*blocks)],
            ActivityResult::BuildLogLine(text)
            | ActivityResult::UntrustedPath(text)
            | ActivityResult::CorruptedPath(text)
            | ActivityResult::SetPhase(text)
            | ActivityResult::PostBuildLogLine(text)
            | ActivityResult::FetchStatus(text) => vec![Field::Text(text.clone())],
            ActivityResult::Progress { done, expected, running, failed } => {
                [done, expected, running, failed].map(|n| Field::Int(*n)).to_vec()
            }
            ActivityResult::SetExpected { activity_type, expected } => {
                vec![Field::Int(activity_type.0), Field::Int(*expected)]
            }
            ActivityResult::Other { fields, .. } => fields.clone(),
        }
    }

    /// The result that a peer described by number and fields; `None` if the fields don't fit the type (telling such a
    /// result on would end real clients).
    #[must_use]
    pub fn from_fields(result_type: u64, fields: Vec<Field>) -> Option<ActivityResult> {
        use Field::{Int, Text as T};
        let mut fields = fields;
        let result = match (result_type, fields.as_mut_slice()) {
            (100, [Int(bytes), Int(blocks), ..]) => {
                ActivityResult::FileLinked { bytes: *bytes, blocks: *blocks }
            }
            (101, [T(line), ..]) => ActivityResult::BuildLogLine(std::mem::take(line)),
            (102, [T(path), ..]) => ActivityResult::UntrustedPath(std::mem::take(path)),
            (103, [T(path), ..]) => ActivityResult::CorruptedPath(std::mem::take(path)),
            (104, [T(phase), ..]) => ActivityResult::SetPhase(std::mem::take(phase)),
            (105, [Int(done), Int(expected), Int(running), Int(failed), ..]) => ActivityResult::Progress {
                done: *done,
                expected: *expected,
                running: *running,
                failed: *failed,
            },
            (106, [Int(activity_type), Int(expected), ..]) => ActivityResult::SetExpected {
                activity_type: ActivityType(*activity_type),
                expected: *expected,
            },
            (107, [T(line), ..]) => ActivityResult::PostBuildLogLine(std::mem::take(line)),
            (108, [T(status), ..]) => ActivityResult::FetchStatus(std::mem::take(status)),
            (100..=108, _) => return None,
            (result_type, _) => ActivityResult::Other { result_type, fields },
        };
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn relaying_is_stable(number in 98u64..112, ints in proptest::collection::vec(any::<u64>(), 0..5), text: Option<Vec<u8>>) {
            let mut fields: Vec<Field> = ints.into_iter().map(Field::Int).collect();
            if let Some(text) = text {
                fields.insert(0, Field::Text(text.into()));
            }
            if let Some(result) = ActivityResult::from_fields(number, fields) {
                prop_assert_eq!(result.result_type(), number);
                prop_assert_eq!(ActivityResult::from_fields(number, result.fields()), Some(result));
            }
        }
    }

    #[test]
    fn a_result_without_its_fields_is_dropped() {
        assert_eq!(ActivityResult::from_fields(105, vec![Field::Int(1)]), None);
        assert_eq!(ActivityResult::from_fields(101, vec![Field::Int(1)]), None);
        assert_eq!(ActivityResult::from_fields(108, Vec::new()), None);
    }
}
