//! Where the quote opens that a syntax error is about. The parser says where it gave up, which for a quote that is closed too
//! late, or never, is lines away from the mistake.

use granit_parser::ErrorKind;

/// Said of a quote that nothing closes.
const NEVER_CLOSED: &str = "this quote is never closed";

/// A quote to blame, and what to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blame {
    /// Byte of the opening quote.
    pub(super) at: usize,
    pub(super) message: String,
}

/// The quote that an error is about. `read` is the end of what was read before it, `at` and `line` are the error's place.
pub(super) fn blame(text: &str, read: usize, at: usize, line: usize, kind: &ErrorKind) -> Option<Blame> {
    if *kind == ErrorKind::UnclosedQuotedScalar && text.get(at..)?.starts_with(['"', '\'']) {
        return Some(Blame { at, message: NEVER_CLOSED.to_owned() });
    }
    let Quoted { open, close } = last_quoted(text, read, at)?;
    let closed = close.is_some();
    let several_lines = text.get(open..at)?.contains('\n');
    let at_end = text.get(at..).is_none_or(|rest| rest.trim().is_empty());
    let message = match kind {
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent if !closed && at_end => {
            NEVER_CLOSED.to_owned()
        }
        ErrorKind::InvalidQuotedScalarIndent | ErrorKind::InvalidIndentation if !closed => {
            format!("this quote is still open on line {line}, which is not indented as its text would be")
        }
        ErrorKind::DocumentIndicatorInQuotedScalar if !closed => {
            format!("this quote is still open where the document ends, on line {line}")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar
            if several_lines =>
        {
            format!("this quote is closed on line {line} only, where more text follows")
        }
        _ => return None,
    };
    Some(Blame { at: open, message })
}

/// A quoted text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    /// Byte of its opening quote.
    pub(super) open: usize,
    /// Byte of its closing quote.
    pub(super) close: Option<usize>,
}

/// The last quoted text that opens between two places.
pub(super) fn last_quoted(text: &str, from: usize, until: usize) -> Option<Quoted> {
    Scan::new(text, from, until).last()
}

/// Quoted texts, in order, by a small reading of YAML's tokens: good for what the parser has looked ahead at, and as a guess
/// of what comes behind it.
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    until: usize,
    /// Open brackets.
    depth: usize,
    /// Whether a token may start here: quotes inside plain text are part of it.
    fresh: bool,
}

impl<'a> Scan<'a> {
    /// Between two bytes; `from` must be behind a token.
    pub(super) fn new(text: &'a str, from: usize, until: usize) -> Self {
        Self { text, at: from, until: until.min(text.len()), depth: 0, fresh: true }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Jumps to the end of the line.
    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..self.until).unwrap_or("");
        self.at = rest.find('\n').map_or(self.until, |newline| self.at + newline);
    }

    /// Jumps behind a block scalar, if its header starts here: what is indented deeper than the header's line.
    fn skip_block(&mut self) -> bool {
        // No further than its own blanks: a line may have many of these.
        let rest = self.text.get(self.at + 1..self.until).unwrap_or("");
        let indicators = rest.trim_start_matches(['+', '-', '1', '2', '3', '4', '5', '6']);
        let after = indicators.trim_start_matches([' ', '\t', '\r']);
        if !(after.is_empty() || after.starts_with('\n') || indicators.starts_with(" #")) {
            return false;
        }
        let start =
            self.text.get(..self.at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let outer = indent(self.text.get(start..).unwrap_or(""));
        self.skip_line();
        while self.at < self.until {
            let line = self.text.get(self.at + 1..self.until).and_then(|rest| rest.lines().next()).unwrap_or("");
            if !line.trim().is_empty() && indent(line) <= outer {
                break;
            }
            self.at += 1;
            self.skip_line();
        }
        true
    }
}

impl Iterator for Scan<'_> {
    type Item = Quoted;

    fn next(&mut self) -> Option<Quoted> {
        while self.at < self.until {
            let byte = self.byte(self.at)?;
            let blank_next = self.byte(self.at + 1).is_none_or(|next| next.is_ascii_whitespace());
            let fresh = std::mem::replace(&mut self.fresh, true);
            match byte {
                b'\n' => {}
                b' ' | b'\t' if self.byte(self.at + 1) == Some(b'#') => self.skip_line(),
                b' ' | b'\t' | b'\r' => self.fresh = fresh,
                b'#' if fresh => self.skip_line(),
                b'"' | b'\'' if fresh => {
                    let open = self.at;
                    let close = closing(self.text.as_bytes(), open, self.until);
                    self.at = close.map_or(self.until, |close| close + 1);
                    return Some(Quoted { open, close });
                }
                b'|' | b'>' if fresh && self.depth == 0 && self.skip_block() => {}
                b'[' | b'{' if fresh => self.depth += 1,
                b']' | b'}' if self.depth > 0 => self.depth -= 1,
                b',' if self.depth > 0 => {}
                // After a quoted key the colon of JSON needs no blank.
                b':' if fresh || blank_next => {}
                b'-' | b'?' if fresh && blank_next => {}
                // A tag or an anchor stands before the token.
                b'!' | b'&' if fresh => {
                    let rest = self.text.get(self.at..self.until)?;
                    self.at += rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len()) - 1;
                }
                _ => self.fresh = false,
            }
            self.at += 1;
        }
        None
    }
}

/// The byte of the quote that closes the one at `open`.
fn closing(bytes: &[u8], open: usize, until: usize) -> Option<usize> {
    let quote = *bytes.get(open)?;
    let mut at = open + 1;
    while at < until {
        match *bytes.get(at)? {
            b'\\' if quote == b'"' => at += 1,
            b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 1,
            byte if byte == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// Line, column and message of the error in a text.
    fn error(text: &str) -> (u32, u32, String) {
        let error = parse("m.yaml", text).unwrap_err();
        (error.line, error.column, error.message)
    }

    #[test]
    fn an_open_quote_is_shown_where_it_opens() {
        let never = "this quote is never closed".to_owned();
        assert_eq!(error("a: 'it''s'\nb: \"open\n  c: d\n"), (2, 4, never.clone()));
        assert_eq!(error("# don't\na: say \"hi\nb: [x, 'open]\n"), (3, 8, never.clone()));
        assert_eq!(error("{\"a\":\"open\n}\n"), (1, 6, never.clone()));
        assert_eq!(error("- a # it's\n- \"x\\\"y\n"), (2, 3, never));
    }

    #[test]
    fn a_quote_that_is_closed_too_late_is_shown_where_it_opens() {
        let (line, column, message) = error("a:\n  image: \"app:1\n  name: \"b\"\n");
        assert_eq!((line, column), (2, 10), "{message}");
        let (line, column, message) = error("a: 'open\nb: c\n---\nd: 'e'\n");
        assert_eq!((line, column), (1, 4), "{message}");
        // On one line the place where the text goes on says more.
        assert_eq!(error("a: \"b\" c\n").1, 8);
    }
}
