//! The directories on disk that a build has for itself, made before it and removed after it.

/// Is this the name of a single file: neither empty nor `.` nor `..`, and without slash or NUL?
pub(crate) fn is_component(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}
