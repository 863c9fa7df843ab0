//! The format of `netrc` files: who is known to which machine by what password.

/// A `netrc` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netrc {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Nothing is any machine (`default`).
    machine: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

impl Netrc {
    /// Reads a file. What makes no sense is passed over, as everybody does who reads these files. What isn't UTF-8 is
    /// read as Latin-1 would have it, so that passwords stay bytes of some kind.
    pub fn parse(contents: &[u8]) -> Self {
        let text = String::from_utf8(contents.to_vec())
            .unwrap_or_else(|_| contents.iter().copied().map(char::from).collect());
        let mut entries: Vec<Entry> = Vec::new();
        let mut tokens = Tokens { rest: &text };
        while let Some(token) = tokens.next() {
            match token.as_str() {
                "machine" => {
                    let Some(machine) = tokens.next() else { break };
                    entries.push(Entry { machine: Some(machine), ..Entry::default() });
                }
                "default" => entries.push(Entry::default()),
                "login" | "password" | "account" => {
                    let Some(value) = tokens.next() else { break };
                    match (entries.last_mut(), token.as_str()) {
                        (Some(entry), "login") => entry.login = Some(value),
                        (Some(entry), "password") => entry.password = Some(value),
                        _ => {}
                    }
                }
                "macdef" => tokens.skip_macro(),
                _ => {}
            }
        }
        Self { entries }
    }

    /// Login and password for a host: those of the first entry that fits and has any. `login` asks for the password of
    /// that one; `with_default` lets the entry for all machines fit.
    pub(crate) fn find(
        &self,
        host: &str,
        login: Option<&str>,
        with_default: bool,
    ) -> Option<(String, String)> {
        let fits = |entry: &&Entry| {
            let host_fits =
                entry.machine.as_ref().map_or(with_default, |machine| machine.eq_ignore_ascii_case(host));
            let login_fits = login.is_none_or(|login| entry.login.as_deref() == Some(login));
            host_fits && login_fits && (entry.login.is_some() || entry.password.is_some())
        };
        let entry = self.entries.iter().find(fits)?;
        Some((entry.login.clone().unwrap_or_default(), entry.password.clone().unwrap_or_default()))
    }
}

/// The words of a file. A word may be quoted by `"`, with `\` before what is to be taken as it is; from a word that
/// begins with `#` to the end of the line is a comment.
struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(quoted) = self.rest.strip_prefix('"') {
                return Some(self.quoted(quoted.len()));
            }
            if !self.rest.starts_with('#') {
                break;
            }
            self.skip_past("\n");
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then(|| token.to_owned())
    }

    /// The rest of a quoted word, of which `length` bytes are left in the file.
    fn quoted(&mut self, length: usize) -> String {
        let start = self.rest.len().saturating_sub(length);
        let mut chars = self.rest.get(start..).unwrap_or_default().chars();
        let mut token = String::new();
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n') => token.push('\n'),
                    Some('r') => token.push('\r'),
                    Some('t') => token.push('\t'),
                    Some(escaped) => token.push(escaped),
                    None => break,
                },
                _ => token.push(char),
            }
        }
        let left = chars.as_str().len();
        self.rest = self.rest.get(self.rest.len() - left..).unwrap_or_default();
        token
    }

    /// A macro goes up to an empty line.
    fn skip_macro(&mut self) {
        self.skip_past("\n\n");
    }

    fn skip_past(&mut self, mark: &str) {
        self.rest = self.rest.split_once(mark).map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &[u8] = b"# a comment with machine wrong login wrong\n\
        machine first login me password secret\n\
        machine second\n\tlogin you\n\taccount nobody\n\tpassword \"two words \\\" \\\\ \\t#\"\n\
        macdef init\nmachine hidden login x password y\nquit\n\n\
        machine second login other password third\n\
        machine only password alone\n\
        machine nothing\n\
        default login anonymous password guest@here\n";

    fn find(host: &str, login: Option<&str>, with_default: bool) -> Option<(String, String)> {
        Netrc::parse(FILE).find(host, login, with_default)
    }

    fn pair(login: &str, password: &str) -> Option<(String, String)> {
        Some((login.to_owned(), password.to_owned()))
    }

    #[test]
    fn b11_netrc_passwords_belong_to_machines() {
        assert_eq!(find("first", None, false), pair("me", "secret"));
        assert_eq!(find("FIRST", None, false), pair("me", "secret"));
        assert_eq!(find("second", None, false), pair("you", "two words \" \\ \t#"));
        assert_eq!(find("second", Some("other"), false), pair("other", "third"));
        assert_eq!(find("only", None, false), pair("", "alone"));
        for unknown in ["hidden", "wrong", "nothing", "", "irst", "first.org"] {
            assert_eq!(find(unknown, None, false), None, "{unknown}");
        }
        assert_eq!(find("first", Some("you"), false), None);
    }

    #[test]
    fn b11_netrc_default_is_for_all_machines_where_that_is_wanted() {
        assert_eq!(find("elsewhere", None, true), pair("anonymous", "guest@here"));
        assert_eq!(find("elsewhere", None, false), None);
        assert_eq!(find("first", None, true), pair("me", "secret"));
    }

    #[test]
    fn b11_netrc_that_is_odd_or_ends_early() {
        let one_line = Netrc::parse(b"machine a login b password c#d machine e login f password g");
        assert_eq!(one_line.find("a", None, false), pair("b", "c#d"));
        assert_eq!(one_line.find("e", None, false), pair("f", "g"));
        for early in [
            "machine",
            "machine a login",
            "machine a login \"b",
            "login b password c",
            "macdef x",
            "\"",
            "\"\\",
        ] {
            assert_eq!(Netrc::parse(early.as_bytes()).find("b", None, true), None, "{early}");
        }
        let latin = Netrc::parse(b"machine a login b password \xe4");
        assert_eq!(latin.find("a", None, false), pair("b", "\u{e4}"));
    }

    proptest! {
        #[test]
        fn any_file_can_be_read(contents in "(machine|default|login|password|macdef|#|\"|\\\\|a|\n| |\u{e9}){0,40}") {
            let _ = Netrc::parse(contents.as_bytes());
        }

        #[test]
        fn quoted_words_are_what_was_quoted(password in "[^\r]{0,20}") {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            let file = format!("machine a login b password \"{quoted}\" machine c login d");
            prop_assert_eq!(Netrc::parse(file.as_bytes()).find("a", None, false), pair("b", &password));
            prop_assert_eq!(Netrc::parse(file.as_bytes()).find("c", None, false), pair("d", ""));
        }
    }
}
