//! The few colours that there are.

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bold.
    Bold,
    /// Less bright than usual.
    Dim,
    /// Bold red.
    Red,
    /// Bold green.
    Green,
    /// Bold blue.
    Blue,
}

impl Style {
    /// The text in this style, if there are colours.
    #[must_use]
    pub fn paint(self, colours: bool, text: &str) -> String {
        let code = match self {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31;1",
            Style::Green => "32;1",
            Style::Blue => "34;1",
        };
        if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
