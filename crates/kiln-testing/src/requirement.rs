//! What a test needs and may not find.

/// Whether a missing requirement is a failure.
pub fn is_continuous_integration() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Says that a test is passed over because only root can do `what`. That is no failure anywhere: who tests as an ordinary user
/// does it to see what such a user meets, and root's tests are run by root.
#[expect(clippy::print_stderr, reason = "a test that tests nothing has to say so")]
pub fn needs_root(what: &str) {
    eprintln!("SKIPPED: only root can {what}");
}

/// Says that a test is passed over because `what` is missing.
///
/// # Panics
/// Under continuous integration, where everything must be there.
#[expect(clippy::print_stderr, reason = "a test that tests nothing has to say so")]
pub fn missing(what: &str) {
    assert!(!is_continuous_integration(), "missing: {what}");
    eprintln!("SKIPPED: this test needs {what}");
}
