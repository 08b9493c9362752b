//! Where text goes: data to stdout, messages to stderr; colour only for people.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For machines.
    Json,
    /// For machines and people.
    Yaml,
}

/// Ours, wherever they stand: colours.
const COLOURS: [&str; 6] = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
/// Ours at the beginning: what clears before something is drawn anew.
const CLEAR: &str = "\r\u{1b}[2K";
/// Stands for what commands a terminal and is not ours.
const REPLACED: char = '\u{fffd}';

/// The text with nothing that commands a terminal but what is ours: names, error answers and lines of files are others'.
pub fn tame(text: &str) -> String {
    let clear = if text.starts_with(CLEAR) { CLEAR } else { "" };
    let mut rest = text.strip_prefix(clear).unwrap_or(text);
    let mut out = clear.to_owned();
    while let Some(character) = rest.chars().next() {
        if let Some(colour) = COLOURS.iter().find(|colour| rest.starts_with(**colour)) {
            out.push_str(colour);
            rest = rest.strip_prefix(colour).unwrap_or_default();
            continue;
        }
        out.push(if commands(character) { REPLACED } else { character });
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    out
}

/// Whether a character moves a cursor, begins a command or turns the order of others around.
fn commands(it: char) -> bool {
    let turns = matches!(it, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (it.is_control() && it != '\n' && it != '\t')
}

/// A log's writer: what follows in the lines after the first is indented, so that nothing begins a line of its own.
#[derive(Debug)]
pub struct Indented<W>(pub W);

impl<W: Write> Write for Indented<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (lines, end) = match bytes.split_last() {
            Some((b'\n', lines)) => (lines, &b"\n"[..]),
            Some(_) | None => (bytes, &b""[..]),
        };
        let mut out = Vec::with_capacity(bytes.len());
        for byte in lines {
            match byte {
                b'\n' => out.extend_from_slice(b"\n    "),
                b'\r' => out.push(b' '),
                other => out.push(*other),
            }
        }
        out.extend_from_slice(end);
        self.0.write_all(&out).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints data on stdout. A closed pipe (`| head`) is not an error.
pub fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(tame(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints a message on stderr. There is nobody left to tell when that fails.
pub fn message(text: &str) {
    let mut err = io::stderr().lock();
    writeln!(err, "{}", tame(text)).ok();
}

/// Whether stdout is for a person who sees colours.
pub fn colours() -> bool {
    colours_on(&io::stdout())
}

/// Whether a stream is for a person who sees colours: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
pub fn colours_on(stream: &impl IsTerminal) -> bool {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    stream.is_terminal() && unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text in a colour, if colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Success.
    Green,
    /// Failure.
    Red,
    /// Waiting, warning.
    Yellow,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Paint {
    /// Wraps `text` in ANSI codes when `on`.
    pub fn apply(self, text: &str, on: bool) -> String {
        let code = match self {
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Dim => "2",
            Self::Bold => "1",
        };
        if on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Columns as kubectl lays them out: padded to the widest cell, three blanks between, no lines.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_codes_reach_a_terminal() {
        let ours = format!("{CLEAR}{} a\tb\n", Paint::Red.apply("bad", true));
        assert_eq!(tame(&ours), ours);
        let theirs = "a\u{1b}[2Jb\u{1b}]0;title\u{7}\rc\u{9b}2J\u{202e}d\u{1b}[H\u{8}";
        assert_eq!(
            tame(theirs),
            "a\u{fffd}[2Jb\u{fffd}]0;title\u{fffd}\u{fffd}c\u{fffd}2J\u{fffd}d\u{fffd}[H\u{fffd}"
        );
    }

    #[test]
    fn no_part_of_an_event_begins_a_line_of_the_log() {
        let mut out = Vec::new();
        let event = b"2026 WARN odd file a\n2026 ERROR forged\r\n2026 INFO too\n";
        Indented(&mut out).write_all(event).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "2026 WARN odd file a\n    2026 ERROR forged \n    2026 INFO too\n");
    }

    #[test]
    fn columns_align_on_the_widest_cell() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let text = columns(&[row(&["NAME", "PHASE"]), row(&["podinfo", "Ready"]), row(&["é", ""])]);
        assert_eq!(text, "NAME      PHASE\npodinfo   Ready\né\n");
    }
}
