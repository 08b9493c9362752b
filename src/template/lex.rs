//! Text and actions become tokens.

use super::Fault;

/// A token and the byte where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) position: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text between actions, trimmed as its neighbours ask.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// Blanks between words: `.a.b` is one operand, `.a .b` are two.
    Space,
    /// A name or a keyword.
    Word(String),
    /// `.name`.
    Field(String),
    /// `.`.
    Dot,
    /// `$name`; `$` alone has an empty name.
    Variable(String),
    /// A quoted text, without its quotes and escapes.
    Quoted(String),
    /// A whole number, a character constant included.
    Int(i64),
    Float(f64),
    /// `(`, `)`, `|`, `,`.
    Sign(char),
    /// `:=`.
    Declare,
    /// `=`.
    Assign,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const COMMENT_OPEN: &str = "/*";
const COMMENT_CLOSE: &str = "*/";
/// What trim markers trim.
const BLANKS: &[char] = &[' ', '\t', '\r', '\n'];

/// Splits a template.
pub(super) fn lex(template: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { template, at: 0, tokens: Vec::new() };
    let mut trims = false;
    loop {
        let rest = lexer.rest();
        let Some(length) = rest.find(OPEN) else {
            lexer.text(rest, trims, false);
            return Ok(lexer.tokens);
        };
        let after = rest.get(length + OPEN.len()..).unwrap_or_default();
        let trims_before = after.starts_with('-') && after[1..].starts_with(BLANKS);
        lexer.text(&rest[..length], trims, trims_before);
        let open = lexer.at + length;
        lexer.at = open + OPEN.len() + if trims_before { 1 } else { 0 };
        trims = lexer.action(open)?;
    }
}

struct Lexer<'a> {
    template: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.template.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, position: self.at });
        self.at += length;
    }

    fn text(&mut self, text: &str, trims_start: bool, trims_end: bool) {
        let trimmed = if trims_start { text.trim_start_matches(BLANKS) } else { text };
        let trimmed = if trims_end { trimmed.trim_end_matches(BLANKS) } else { trimmed };
        if !trimmed.is_empty() {
            self.tokens.push(Token { kind: Kind::Text(trimmed.to_owned()), position: self.at });
        }
    }

    /// From behind `{{` to behind `}}`; whether the text that follows is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Fault> {
        let blanks = self.rest().len() - self.rest().trim_start_matches(BLANKS).len();
        if self.template.get(self.at + blanks..).is_some_and(|rest| rest.starts_with(COMMENT_OPEN)) {
            self.at += blanks;
            return self.comment(open);
        }
        self.tokens.push(Token { kind: Kind::Open, position: open });
        loop {
            let rest = self.rest();
            if let Some(trims) = closes(rest) {
                let length = if trims { rest.find(CLOSE).unwrap_or(0) } else { 0 };
                self.at += length;
                self.push(Kind::Close, CLOSE.len());
                return Ok(trims);
            }
            if rest.is_empty() {
                return Err(Fault::new(open, "unclosed action: `}}` is missing"));
            }
            self.token(rest)?;
        }
    }

    fn comment(&mut self, open: usize) -> Result<bool, Fault> {
        let rest = self.rest();
        let Some(end) = rest.find(COMMENT_CLOSE) else {
            return Err(Fault::new(open, "unclosed comment: `*/` is missing"));
        };
        let after = &rest[end + COMMENT_CLOSE.len()..];
        let Some(trims) = closes(after) else {
            return Err(Fault::new(open, "comment ends before closing delimiter: `*/}}` is meant"));
        };
        let close = after.find(CLOSE).unwrap_or(0);
        self.at += end + COMMENT_CLOSE.len() + close + CLOSE.len();
        Ok(trims)
    }

    fn token(&mut self, rest: &'a str) -> Result<(), Fault> {
        let first = rest.chars().next().unwrap_or_default();
        let second = rest[first.len_utf8()..].chars().next().unwrap_or_default();
        match first {
            _ if BLANKS.contains(&first) => {
                let length = rest.len() - rest.trim_start_matches(BLANKS).len();
                self.push(Kind::Space, length);
            }
            '"' => self.quoted(rest)?,
            '`' => {
                let Some(end) = rest[1..].find('`') else {
                    return Err(Fault::new(self.at, "unterminated raw quoted string"));
                };
                self.push(Kind::Quoted(rest[1..=end].replace('\r', "")), end + 2);
            }
            '\'' => self.character(rest)?,
            '.' if second.is_ascii_digit() => self.number(rest)?,
            '.' => {
                let name = word(&rest[1..]);
                if name.is_empty() {
                    self.push(Kind::Dot, 1);
                } else {
                    self.push(Kind::Field(name.to_owned()), 1 + name.len());
                }
            }
            '$' => {
                let name = word(&rest[1..]);
                self.push(Kind::Variable(name.to_owned()), 1 + name.len());
            }
            ':' if second == '=' => self.push(Kind::Declare, 2),
            '=' => self.push(Kind::Assign, 1),
            '(' | ')' | '|' | ',' => self.push(Kind::Sign(first), 1),
            '+' | '-' | '0'..='9' => self.number(rest)?,
            _ if is_of_word(first) => {
                let name = word(rest);
                self.push(Kind::Word(name.to_owned()), name.len());
            }
            other => return Err(Fault::new(self.at, format!("unexpected {other:?} in an action"))),
        }
        Ok(())
    }

    fn quoted(&mut self, rest: &str) -> Result<(), Fault> {
        let (mut text, mut chars) = (String::new(), rest.char_indices().skip(1));
        loop {
            match chars.next() {
                None | Some((_, '\n')) => return Err(Fault::new(self.at, "unterminated quoted string")),
                Some((end, '"')) => {
                    self.push(Kind::Quoted(text), end + 1);
                    return Ok(());
                }
                Some((at, '\\')) => text.push(self.escape(at, &mut chars)?),
                Some((_, other)) => text.push(other),
            }
        }
    }

    /// A character constant is its number.
    fn character(&mut self, rest: &str) -> Result<(), Fault> {
        let fault = || Fault::new(self.at, "malformed character constant");
        let mut chars = rest.char_indices().skip(1);
        let character = match chars.next() {
            Some((at, '\\')) => self.escape(at, &mut chars)?,
            Some((_, other)) if other != '\'' && other != '\n' => other,
            Some(_) | None => return Err(fault()),
        };
        match chars.next() {
            Some((end, '\'')) => {
                self.push(Kind::Int(i64::from(u32::from(character))), end + 1);
                Ok(())
            }
            Some(_) | None => Err(fault()),
        }
    }

    /// What follows a backslash, as in Go's string literals.
    fn escape(&self, at: usize, chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char, Fault> {
        let fault = || Fault::new(self.at + at, "unknown escape in a quoted string");
        let kind = chars.next().map(|(_, kind)| kind).ok_or_else(fault)?;
        let (digits, radix, mut code) = match kind {
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\u{b}'),
            '\\' | '"' | '\'' => return Ok(kind),
            'x' => (2, 16, 0),
            'u' => (4, 16, 0),
            'U' => (8, 16, 0),
            '0'..='7' => (2, 8, kind.to_digit(8).unwrap_or(0)),
            _ => return Err(fault()),
        };
        for _ in 0..digits {
            let digit = chars.next().and_then(|(_, digit)| digit.to_digit(radix)).ok_or_else(fault)?;
            code = code.checked_mul(radix).ok_or_else(fault)? + digit;
        }
        // A byte that is no character of its own would need others beside it.
        let is_byte = matches!(kind, 'x' | '0'..='7');
        char::from_u32(code).filter(|it| it.is_ascii() || !is_byte).ok_or_else(fault)
    }

    fn number(&mut self, rest: &str) -> Result<(), Fault> {
        let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let sign = rest.len() - signed.len();
        let mut length = 0;
        let mut before = ' ';
        for character in signed.chars() {
            let exponent = matches!(before, 'e' | 'E') && matches!(character, '+' | '-');
            if !(character.is_ascii_alphanumeric() || character == '.' || character == '_' || exponent) {
                break;
            }
            length += 1;
            before = character;
        }
        let text = &rest[..sign + length];
        match number(text) {
            Some(kind) => {
                self.push(kind, text.len());
                Ok(())
            }
            None => Err(Fault::new(self.at, format!("bad number syntax: {text:?}"))),
        }
    }
}

/// Whether an action ends here, with or without the marker that trims what follows; `None` if it does not.
fn closes(rest: &str) -> Option<bool> {
    if rest.starts_with(CLOSE) {
        return Some(false);
    }
    let marker = rest.trim_start_matches(BLANKS).strip_prefix('-').is_some_and(|rest| rest.starts_with(CLOSE));
    (marker && rest.starts_with(BLANKS)).then_some(true)
}

fn is_of_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn word(text: &str) -> &str {
    text.split(|it| !is_of_word(it)).next().unwrap_or_default()
}

/// A number as Go writes it: decimal, `0x`, `0o`, `0b`, with `_` between digits.
fn number(text: &str) -> Option<Kind> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let based = |prefix: &str, radix| {
        lower
            .strip_prefix(prefix)
            .map(|digits| i64::from_str_radix(digits, radix).ok().map(|it| Kind::Int(sign * it)))
    };
    if let Some(found) = based("0x", 16).or_else(|| based("0o", 8)).or_else(|| based("0b", 2)) {
        return found;
    }
    if digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.is_empty() {
        let octal = digits.len() > 1 && digits.starts_with('0');
        let value = if octal { i64::from_str_radix(digits, 8) } else { digits.parse() };
        return value.ok().map(|it: i64| Kind::Int(sign * it));
    }
    let starts = digits.starts_with(|it: char| it.is_ascii_digit() || it == '.');
    let value = digits.parse::<f64>().ok().filter(|value| starts && value.is_finite())?;
    #[expect(clippy::cast_precision_loss, reason = "a sign")]
    let signed = value * sign as f64;
    Some(Kind::Float(signed))
}
