//! How the value of a setting is written, by type.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Why a text is no value of a setting: what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ValueError(pub String);

impl ValueError {
    pub(crate) fn expected(what: &str) -> ValueError {
        ValueError(what.to_owned())
    }
}

/// What sort of value a setting has, for help and for command line flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; as flags `--NAME` and `--no-NAME`.
    Boolean,
    /// A number that isn't negative, possibly with a unit (K, M, G, T: powers of 1024).
    Number,
    /// `auto` or a number.
    Jobs,
    /// Text; may be empty.
    Text,
    /// Words separated by blanks; `extra-NAME` adds to them.
    Words,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A store URL.
    Store,
}

/// A type that settings can have.
pub(crate) trait SettingValue: Sized {
    const KIND: Kind;

    /// The value that `text` stands for, all blanks in it being single ones.
    fn parse(text: &str) -> Result<Self, ValueError>;

    /// The text that stands for the value; [`SettingValue::parse`] gives the same value again.
    fn render(&self) -> String;

    /// The value as `config show --json` has it.
    fn to_json(&self) -> Value;

    /// Adds `text` to what is there; `None` if values of this type can't be added to.
    fn add(&mut self, _text: &str) -> Option<Result<(), ValueError>> {
        None
    }
}

/// What Nix takes for true or false, in settings and in parameters of URLs.
#[must_use]
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

impl SettingValue for bool {
    const KIND: Kind = Kind::Boolean;

    fn parse(text: &str) -> Result<bool, ValueError> {
        truth(text).ok_or_else(|| ValueError::expected("true or false (or yes, no, 1, 0)"))
    }

    fn render(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for u64 {
    const KIND: Kind = Kind::Number;

    fn parse(text: &str) -> Result<u64, ValueError> {
        let error = || ValueError::expected("a number below 2^64, possibly followed by K, M, G or T");
        let (digits, shift) = match text.char_indices().last() {
            Some((at, unit)) if unit.is_ascii_alphabetic() => {
                let shift = match unit.to_ascii_uppercase() {
                    'K' => 10,
                    'M' => 20,
                    'G' => 30,
                    'T' => 40,
                    _ => return Err(error()),
                };
                (text.get(..at).unwrap_or_default(), shift)
            }
            _ => (text, 0),
        };
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(1 << shift).ok_or_else(error)
    }

    fn render(&self) -> String {
        self.to_string()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for String {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<String, ValueError> {
        Ok(text.to_owned())
    }

    fn render(&self) -> String {
        self.clone()
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// Empty text is no value.
impl SettingValue for Option<String> {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<Option<String>, ValueError> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn render(&self) -> String {
        self.clone().unwrap_or_default()
    }

    fn to_json(&self) -> Value {
        json!(self.render())
    }
}

/// Words in the order in which they were written.
impl SettingValue for Vec<String> {
    const KIND: Kind = Kind::Words;

    fn parse(text: &str) -> Result<Vec<String>, ValueError> {
        Ok(words(text).map(str::to_owned).collect())
    }

    fn render(&self) -> String {
        self.join(" ")
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn add(&mut self, text: &str) -> Option<Result<(), ValueError>> {
        self.extend(words(text).map(str::to_owned));
        Some(Ok(()))
    }
}

/// Words whose order and repetition mean nothing.
impl SettingValue for BTreeSet<String> {
    const KIND: Kind = Kind::Words;

    fn parse(text: &str) -> Result<BTreeSet<String>, ValueError> {
        Ok(words(text).map(str::to_owned).collect())
    }

    fn render(&self) -> String {
        let words: Vec<&str> = self.iter().map(String::as_str).collect();
        words.join(" ")
    }

    fn to_json(&self) -> Value {
        json!(self)
    }

    fn add(&mut self, text: &str) -> Option<Result<(), ValueError>> {
        self.extend(words(text).map(str::to_owned));
        Some(Ok(()))
    }
}

/// The words of a text, separated by what separates them in `nix.conf`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn booleans_as_nix_takes_them() {
        for (texts, value) in [(["true", "yes", "1"], true), (["false", "no", "0"], false)] {
            assert!(texts.iter().all(|text| bool::parse(text) == Ok(value)));
        }
        for text in ["TRUE", "True", "on", "", "2", " true"] {
            assert!(bool::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_with_units() {
        for (text, value) in [
            ("0", 0),
            ("007", 7),
            ("+5", 5),
            ("1K", 1 << 10),
            ("3m", 3 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
            ("18446744073709551615", u64::MAX),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(u64::parse(text), Ok(value), "{text:?}");
        }
        for text in
            ["", "K", "-5", "0x10", "5 6", "1KB", "1.5G", "18446744073709551616", "16777216T", "1é", "5 K"]
        {
            assert!(u64::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses(number: u64, text in "[a-z/:=?]{0,9}( [a-z]{1,5}){0,3}") {
            prop_assert_eq!(u64::parse(&number.render()), Ok(number));
            let list = Vec::<String>::parse(&text).unwrap();
            prop_assert_eq!(Vec::<String>::parse(&list.render()).unwrap(), list);
            let set = BTreeSet::<String>::parse(&text).unwrap();
            prop_assert_eq!(BTreeSet::<String>::parse(&set.render()).unwrap(), set);
            let option = Option::<String>::parse(&text).unwrap();
            prop_assert_eq!(Option::<String>::parse(&option.render()).unwrap(), option);
        }

        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = bool::parse(&text);
            if let Ok(number) = u64::parse(&text) {
                prop_assert_eq!(u64::parse(&number.render()), Ok(number));
            }
        }
    }
}
