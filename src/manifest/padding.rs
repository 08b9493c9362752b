//! Quoted text over several lines that is not indented, which kubectl reads and the parser refuses.
//!
//! YAML wants the lines of a quoted text indented deeper than what holds it; libyaml, and so every tool around Kubernetes,
//! never asked for it, and generated definitions are full of such texts. Blanks at the start of those lines are no part of
//! the text, so the parser is given a copy that has more of them, and what it says of places is counted back.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::lines::LineIndex;
use super::quotes::{Quoted, Scan};

/// Most blanks that are put into one file: a long text that begins far to the right would want them for each of its lines.
const ADDED_MAX: usize = 16 << 20;

/// Lines that get blanks in front, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Padding {
    pads: Vec<Pad>,
    /// How many blanks the pads before each one have together.
    added: Vec<usize>,
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
        let begins =
            |index: usize| self.pads.get(index).zip(self.added.get(index)).map(|(pad, added)| pad.at + added);
        // The last pad that begins before.
        let (mut low, mut high) = (0, self.pads.len());
        while low < high {
            let middle = low.midpoint(high);
            if begins(middle).is_some_and(|at| at < copied) { low = middle + 1 } else { high = middle }
        }
        let Some((pad, added)) =
            low.checked_sub(1).and_then(|index| self.pads.get(index).zip(self.added.get(index)))
        else {
            return copied;
        };
        // A place among the blanks is the line's start.
        copied - added - pad.blanks.min(copied - pad.at - added)
    }

    /// The column of the file, from 0, that is this column of the copy.
    pub(super) fn column(&self, line: usize, copied: usize) -> usize {
        let found = self.pads.binary_search_by_key(&line, |pad| pad.line);
        let blanks = found.ok().and_then(|index| self.pads.get(index)).map_or(0, |pad| pad.blanks);
        copied.saturating_sub(blanks)
    }

    /// Indents the quoted text that opens at byte `open` of the file, and all that seem to follow it: a definition has
    /// hundreds of them. `false` if that is not what is wrong: it is never closed, or indented already.
    pub(super) fn indent(&mut self, text: &str, lines: &LineIndex, open: usize) -> bool {
        let before = self.pads.len();
        let known: BTreeSet<usize> = self.pads.iter().map(|pad| pad.at).collect();
        let mut added: usize = self.pads.iter().map(|pad| pad.blanks).sum();
        for Quoted { open, close } in Scan::new(text, open, text.len()) {
            let Some(close) = close else { break };
            let blanks = 1 + open - lines.start_of(open);
            for (at, line) in lines.starting_in(open + 1..close + 1) {
                // What looks like the document's end is the document's end.
                let marker = text.get(at..).is_some_and(|line| line.starts_with("---") || line.starts_with("..."));
                if !marker && !known.contains(&at) && !self.wrong.contains(&at) {
                    added += blanks;
                    if added > ADDED_MAX {
                        return false;
                    }
                    self.pads.push(Pad { at, line, blanks });
                }
            }
        }
        self.count();
        self.pads.len() > before
    }

    /// Puts the pads in order and counts their blanks.
    fn count(&mut self) {
        self.pads.sort_by_key(|pad| pad.at);
        let before = self.pads.iter().scan(0, |sum, pad| {
            let before = *sum;
            *sum += pad.blanks;
            Some(before)
        });
        self.added = before.collect();
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
        self.count();
        self.wrong.extend(wrong.iter().map(|pad| pad.at));
        !wrong.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_back() {
        let text = "a:\n  b: 'x\n  y\nz'  # é\n  c: d\n";
        let (mut padding, lines) = (Padding::default(), LineIndex::new(text));
        let open = text.find('\'').unwrap();
        assert!(padding.indent(text, &lines, open));
        assert!(!padding.indent(text, &lines, open), "once is enough");
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
        assert!(!padding.indent(text, &lines, open), "not tried twice");
    }

    #[test]
    fn every_byte_is_counted_back_as_by_walking() {
        let text = "a: 'x\ny\n\nz'\nb: [\"c\nd\", 'e\nf']\ng: h\n";
        let (mut padding, lines) = (Padding::default(), LineIndex::new(text));
        assert!(padding.indent(text, &lines, text.find('\'').unwrap()));
        for copied in 0..=padding.apply(text).len() {
            let mut added = 0;
            for Pad { at, line: _, blanks } in &padding.pads {
                if at + added >= copied {
                    break;
                }
                added += (*blanks).min(copied - at - added);
            }
            assert_eq!(padding.byte(copied), copied - added, "{copied}");
        }
    }
}
