//! Recipes whose builders are shell scripts.

use std::fmt;
use std::fmt::Write as _;

/// The text of a recipe, put together by its parts.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    text: String,
}

impl Recipe {
    /// A recipe with one derivation, named `it`, whose builder is a shell script.
    pub fn script(script: &str) -> Self {
        Self::default().derivation("it", script)
    }

    /// Adds a derivation. In the script, `${name}` refers to another one and `$${name}` is a variable of the shell.
    ///
    /// # Panics
    /// If the script has what TOML's literal strings cannot have.
    #[must_use]
    pub fn derivation(mut self, name: &str, script: &str) -> Self {
        assert!(!script.contains("'''"), "not for a literal string: {script}");
        let _ = write!(
            self.text,
            "\n[derivation.{name}]\nbuilder = \"/bin/sh\"\nargs = [\"-ec\", '''\n{script}\n''']\nenv.PATH = \"/usr/bin:/bin\"\n"
        );
        self
    }

    /// Adds lines to the last derivation, such as `outputs = ["out", "dev"]` or `env.passAsFile = "text"`.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self.text.push('\n');
        self
    }

    /// Makes the last derivation one of fixed output: the hash of the file or, with the mode `recursive`, of the tree.
    #[must_use]
    pub fn fixed(self, hash: &str, mode: &str) -> Self {
        self.with(&format!(
            "outputHash = \"{hash}\"\noutputHashAlgo = \"sha256\"\noutputHashMode = \"{mode}\""
        ))
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::ops::Deref for Recipe {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}
