//! Documents in HTML, of which every text is escaped.

use std::fmt::Write as _;

use kiln_store_path::StorePath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand in a URL as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'+').remove(b'=');

/// A document that is being written.
#[derive(Debug)]
pub(super) struct Html(String);

impl Html {
    /// A document up to its body.
    pub(super) fn new(title: &str) -> Self {
        let mut html = Self(String::from(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"stylesheet\" href=\"/style.css\">\n",
        ));
        html.element("title", title);
        html.0.push_str("</head>\n<body>\n");
        html
    }

    /// The whole document.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</body>\n</html>\n");
        self.0
    }

    pub(super) fn open(&mut self, tag: &'static str) -> &mut Self {
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.0, "<{tag}>");
        self
    }

    pub(super) fn close(&mut self, tag: &'static str) -> &mut Self {
        let _ = writeln!(self.0, "</{tag}>");
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        escape(text, &mut self.0);
        self
    }

    pub(super) fn element(&mut self, tag: &'static str, text: &str) -> &mut Self {
        self.open(tag).text(text);
        let _ = write!(self.0, "</{tag}>");
        self
    }

    pub(super) fn heading(&mut self, level: u8, text: &str) -> &mut Self {
        let _ = write!(self.0, "<h{level}>");
        self.text(text);
        let _ = writeln!(self.0, "</h{level}>");
        self
    }

    pub(super) fn term(&mut self, text: &str) -> &mut Self {
        self.element("dt", text)
    }

    /// A link; whatever of the URL is not its author's own has gone through [`in_url`].
    pub(super) fn link(&mut self, url: &str, text: &str) -> &mut Self {
        self.0.push_str("<a href=\"");
        escape(url, &mut self.0);
        self.0.push_str("\">");
        self.text(text);
        self.0.push_str("</a>");
        self
    }

    /// A link to the page of a path.
    pub(super) fn path(&mut self, path: &StorePath) -> &mut Self {
        self.open("code").link(&format!("/path/{}", path.digest()), path.base_name());
        self.0.push_str("</code>");
        self
    }

    /// A list of paths, out of so many.
    pub(super) fn paths(&mut self, heading: &str, paths: &[&StorePath], count: usize) -> &mut Self {
        self.heading(2, heading);
        if paths.is_empty() {
            return self.element("p", "no other path");
        }
        self.open("ul");
        for path in paths {
            self.open("li").path(path).close("li");
        }
        self.close("ul");
        if count > paths.len() {
            self.element("p", &format!("and {} more", count - paths.len()));
        }
        self
    }

    /// The form in which a path is looked up.
    pub(super) fn form(&mut self, store_dir: &str) -> &mut Self {
        self.0.push_str(
            "<form action=\"/path\"><label>Store path <input name=\"q\" size=\"60\" required placeholder=\"",
        );
        escape(store_dir, &mut self.0);
        self.0.push_str("/…\"></label> <button>Look</button></form>\n");
        self
    }
}

/// A text as a part of a URL.
pub(super) fn in_url(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// What cannot be seen, or turns the direction of what follows, is shown as a replacement character: names must look like
/// what they are.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            letter if letter.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_gets_out_of_where_it_is_put() {
        let mut page = Html::new("</title><script>");
        page.text("<b>&\"'\u{202e}\0").link("/a\"onclick=\"x", "'");
        let text = page.finish();
        assert!(text.contains("<title>&lt;/title&gt;&lt;script&gt;</title>"), "{text}");
        assert!(
            text.contains(
                "&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}<a href=\"/a&quot;onclick=&quot;x\">&#39;</a>"
            ),
            "{text}"
        );
        assert_eq!(in_url("a?b/c\"%é+=-._"), "a%3Fb%2Fc%22%25%C3%A9+=-._");
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_markup(text in any::<String>()) {
            let mut out = String::new();
            escape(&text, &mut out);
            prop_assert!(!out.contains(['<', '>', '"', '\'']));
        }
    }
}
