//! Quoted text over several lines that is not indented, which kubectl reads and the parser refuses.
//!
//! YAML wants the lines of a quoted text indented deeper than what holds it; libyaml, and so every tool around Kubernetes,
//! never asked for it, and generated definitions are full of such texts. Blanks at the start of those lines are no part of
//! the text, so the parser is given a copy that has more of them, and what it says of places is counted back.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::quotes::{Quoted, Scan};

/// Lines that get blanks in front, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Padding {
    pads: Vec<Pad>,
    /// Starts of lines that must have none.
    wrong: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Pad {
    /// Byte of the line's start in the file.
    at: usize,
    /// Its number, from 1.
    line: usize,
    /// How many blanks.
    blanks: usize,
}

impl Padding {
    /// The text with its blanks.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.pads.is_empty() {
            return Cow::Borrowed(text);
        }
        let added: usize = self.pads.iter().map(|pad| pad.blanks).sum();
        let mut out = String::with_capacity(text.len() + added);
        let mut done = 0;
        for Pad { at, line: _, blanks } in &self.pads {
            out.push_str(text.get(done..*at).unwrap_or(""));
            out.extend(std::iter::repeat_n(' ', *blanks));
            done = *at;
        }
        out.push_str(text.get(done..).unwrap_or(""));
        Cow::Owned(out)
    }

    /// The byte of the file that is this byte of the copy.
    pub(super) fn byte(&self, copied: usize) -> usize {
        let mut added = 0;
        for Pad { at, line: _, blanks } in &self.pads {
            if at + added >= copied {
                break;
            }
            // A place among the blanks is the line's start.
            added += (*blanks).min(copied - at - added);
        }
        copied - added
    }

    /// The column of the file, from 0, that is this column of the copy.
    pub(super) fn column(&self, line: usize, copied: usize) -> usize {
        let found = self.pads.binary_search_by_key(&line, |pad| pad.line);
        let blanks = found.ok().and_then(|index| self.pads.get(index)).map_or(0, |pad| pad.blanks);
        copied.saturating_sub(blanks)
    }

    /// Indents the quoted text that opens at byte `open` of the file, and all that seem to follow it: a definition has
    /// hundreds of them. `false` if that is not what is wrong: it is never closed, or indented already.
    pub(super) fn indent(&mut self, text: &str, open: usize) -> bool {
        let before = self.pads.len();
        let known: BTreeSet<usize> = self.pads.iter().map(|pad| pad.at).collect();
        let mut line = Lines { text, at: 0, number: 1 };
        for Quoted { open, close } in Scan::new(text, open, text.len()) {
            let Some(close) = close else { break };
            let blanks = 1 + open - line.start_of(open);
            while let Some(at) = line.next_start(close) {
                // What looks like the document's end is the document's end.
                let marker = text.get(at..).is_some_and(|line| line.starts_with("---") || line.starts_with("..."));
                if !marker && !known.contains(&at) && !self.wrong.contains(&at) {
                    self.pads.push(Pad { at, line: line.number, blanks });
                }
            }
        }
        self.pads.sort_by_key(|pad| pad.at);
        self.pads.len() > before
    }

    /// Takes back what was put, before `until`, into something else than the quoted texts that the parser found. Whether
    /// there was any.
    pub(super) fn keep_inside(&mut self, quoted: &[Range<usize>], until: usize) -> bool {
        let inside = |pad: &Pad| {
            if pad.at >= until {
                return true;
            }
            let next = quoted.partition_point(|range| range.start <= pad.at);
            next.checked_sub(1).and_then(|index| quoted.get(index)).is_some_and(|range| pad.at < range.end)
        };
        let (right, wrong): (Vec<Pad>, Vec<Pad>) = self.pads.iter().partition(|pad| inside(pad));
        self.pads = right;
        self.wrong.extend(wrong.iter().map(|pad| pad.at));
        !wrong.is_empty()
    }
}

/// Where lines start; asked in order.
struct Lines<'a> {
    text: &'a str,
    /// Start of the current line.
    at: usize,
    /// Its number, from 1.
    number: usize,
}

impl Lines<'_> {
    /// The next line's start, unless it is behind `until`.
    fn next_start(&mut self, until: usize) -> Option<usize> {
        let newline = self.text.get(self.at..until)?.find('\n')?;
        self.at += newline + 1;
        self.number += 1;
        Some(self.at)
    }

    /// The start of the line that holds this byte.
    fn start_of(&mut self, byte: usize) -> usize {
        while self.next_start(byte).is_some() {}
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_back() {
        let text = "a:\n  b: 'x\n  y\nz'  # é\n  c: d\n";
        let mut padding = Padding::default();
        let open = text.find('\'').unwrap();
        assert!(padding.indent(text, open));
        assert!(!padding.indent(text, open), "once is enough");
        let copy = padding.apply(text);
        assert_eq!(copy, "a:\n  b: 'x\n        y\n      z'  # é\n  c: d\n");
        for word in ["b:", "x", "y", "z", "#", "c:"] {
            assert_eq!(padding.byte(copy.find(word).unwrap()), text.find(word).unwrap(), "{word}");
        }
        assert_eq!((padding.column(4, 6), padding.column(5, 2)), (0, 2));
        assert!(
            padding.keep_inside(std::slice::from_ref(&(open..open + 2)), text.len()),
            "the parser found a shorter text"
        );
        assert_eq!(padding.apply(text), text);
        assert!(!padding.indent(text, open), "not tried twice");
    }
}
