//! Where the lines of a text are: found once, asked often.

use std::ops::Range;

/// The starts of a text's lines.
#[derive(Debug, Clone, Default)]
pub struct LineIndex {
    /// Bytes, in order; the first is 0.
    starts: Vec<usize>,
    /// The text's length.
    end: usize,
}

impl LineIndex {
    /// One pass over the text.
    pub fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { starts, end: text.len() }
    }

    /// The line `number` (from 1) of the text it was made of, without its end; empty if there is no such line.
    pub fn line<'a>(&self, text: &'a str, number: u32) -> &'a str {
        let index = number.saturating_sub(1) as usize;
        let Some(start) = self.starts.get(index) else { return "" };
        let end = self.starts.get(index + 1).copied().unwrap_or(self.end);
        text.get(*start..end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }

    /// The start of the line that holds a byte.
    pub(super) fn start_of(&self, byte: usize) -> usize {
        let after = self.starts.partition_point(|start| *start <= byte);
        self.starts.get(after.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Lines that start within a range: their starts and numbers (from 1).
    pub(super) fn starting_in(&self, range: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let first = self.starts.partition_point(|start| *start < range.start);
        let starts = self.starts.iter().copied().enumerate().skip(first);
        starts.take_while(move |(_, start)| *start < range.end).map(|(index, start)| (start, index + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_number_and_by_byte() {
        let text = "a\r\nbé\n\nd";
        let lines = LineIndex::new(text);
        assert_eq!([1, 2, 3, 4, 5, 0].map(|number| lines.line(text, number)), ["a", "bé", "", "d", "", "a"]);
        assert_eq!([0, 1, 3, 6, 7, 8, 99].map(|byte| lines.start_of(byte)), [0, 0, 3, 3, 7, 8, 8]);
        assert_eq!(lines.starting_in(1..8).collect::<Vec<_>>(), [(3, 2), (7, 3)]);
        assert_eq!(LineIndex::new("").line("", 1), "");
    }
}
