//! What fits a person's terminal: rows that wrap at words, frames that are cut to the height, and a live screen.

use std::io::{self, IsTerminal, Write, stdout};

use super::output::{self, Paint};

/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;
/// No text is set narrower than this, whatever stands before it: below, a terminal's own wrapping reads better.
const TEXT_MIN: usize = 20;
/// Stands for what is cut off.
const CUT: char = '…';
/// Goes to a screen of its own, so that what was there before is there afterwards, and hides the cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// Back again.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the top left corner: what is there is written over, which does not flicker as clearing does.
const HOME: &str = "\u{1b}[H";
/// Clears the rest of a line, and all below it.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Columns and lines of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

impl Size {
    /// As wide, and as long as it takes: what is printed once scrolls.
    #[must_use]
    pub fn endless(self) -> Self {
        Self { lines: usize::MAX, ..self }
    }
}

/// The terminal on stdout; `None` where stdout is no terminal, and nothing has to fit.
pub fn size() -> Option<Size> {
    if !stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stdout()).ok();
    let known = |count: u16| Some(usize::from(count)).filter(|count| *count > 0);
    let columns = size.and_then(|size| known(size.ws_col)).unwrap_or(COLUMNS);
    let lines = size.and_then(|size| known(size.ws_row)).unwrap_or(usize::MAX);
    Some(Size { columns, lines })
}

/// A paragraph of a screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Before its first line.
    pub first: String,
    /// Before each further one; as wide as `first`.
    pub further: String,
    /// The text, which may hold colours within words.
    pub text: String,
    /// Its colour.
    pub paint: Option<Paint>,
}

impl Row {
    /// Its lines: one, however long, without a width.
    pub fn lines(&self, columns: Option<usize>, colours: bool) -> Vec<String> {
        let Self { first, further, text, paint } = self;
        let painted = |text: &str| paint.map_or_else(|| text.to_owned(), |paint| paint.apply(text, colours));
        let Some(columns) = columns else {
            return vec![format!("{first}{}", painted(text)).trim_end().to_owned()];
        };
        let room = columns.saturating_sub(textwrap::core::display_width(first)).max(TEXT_MIN);
        let wrapped = textwrap::wrap(text, room);
        let heads = std::iter::once(first).chain(std::iter::repeat(further));
        heads
            .zip(&wrapped)
            .map(|(head, piece)| format!("{head}{}", painted(piece)).trim_end().to_owned())
            .collect()
    }
}

/// The text in so many columns, with `…` for what does not fit.
pub fn cut(text: &str, columns: usize) -> String {
    if textwrap::core::display_width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for character in text.chars() {
        if textwrap::core::display_width(&out) + 1 >= columns {
            break;
        }
        out.push(character);
    }
    // A wide character may have been one too many.
    while textwrap::core::display_width(&out) >= columns.max(1) {
        out.pop();
    }
    out.push(CUT);
    out
}

/// What a person is shown: what stays, and what is left out line by line, oldest first, where it does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// Stays.
    pub rows: Vec<Row>,
    /// The tail that gives way.
    pub tail: Vec<Row>,
}

impl Frame {
    /// The frame as text, in so many columns and lines; whole without a size.
    pub fn render(&self, size: Option<Size>, colours: bool) -> String {
        let columns = size.map(|size| size.columns);
        let all =
            |rows: &[Row]| -> Vec<String> { rows.iter().flat_map(|row| row.lines(columns, colours)).collect() };
        let (mut lines, mut tail) = (all(&self.rows), all(&self.tail));
        if let Some(Size { lines: most, .. }) = size {
            let room = most.saturating_sub(lines.len());
            tail.drain(..tail.len().saturating_sub(room));
            if lines.len() > most {
                let more = lines.len() + 1 - most;
                lines.truncate(most.saturating_sub(1));
                lines.push(format!("{CUT} {more} more lines"));
            }
        }
        lines.extend(tail);
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// A screen of its own that is drawn again and again; the last frame stays when it is over.
#[derive(Debug)]
pub struct Live {
    last: String,
}

impl Live {
    /// Takes the terminal.
    pub fn enter() -> io::Result<Self> {
        write(ENTER)?;
        Ok(Self { last: String::new() })
    }

    /// Draws a frame whose lines fit the terminal.
    pub fn draw(&mut self, frame: &str) -> io::Result<()> {
        let tamed = output::tame(frame);
        let lines: Vec<&str> = tamed.lines().collect();
        let body = lines.join(&format!("{CLEAR_LINE}\r\n"));
        write(&format!("{HOME}{body}{CLEAR_LINE}{CLEAR_BELOW}"))?;
        self.last = tamed;
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Nobody is left to be told.
        write(&format!("{LEAVE}{}", self.last)).ok();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        Row { first: "├─ a ".into(), further: "│    ".into(), text: text.into(), paint: None }
    }

    #[test]
    fn rows_wrap_at_words_under_their_text() {
        let long = row("one two three four five six seven");
        assert_eq!(long.lines(Some(25), false), ["├─ a one two three four", "│    five six seven"]);
        assert_eq!(long.lines(None, false), ["├─ a one two three four five six seven"]);
        let painted = Row { paint: Some(Paint::Red), ..long };
        let lines = painted.lines(Some(25), true);
        assert!(lines.iter().all(|line| line.ends_with("\u{1b}[0m")), "{lines:?}");
        assert!(lines[1].starts_with("│    \u{1b}[31m"), "{lines:?}");
    }

    #[test]
    fn what_is_too_long_is_cut_visibly() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn the_tail_gives_way_first_and_then_the_end() {
        let frame = Frame { rows: vec![row("1"), row("2")], tail: vec![row("old"), row("new")] };
        let lines = |lines: usize| frame.render(Some(Size { columns: 80, lines }), false);
        assert_eq!(lines(4), "├─ a 1\n├─ a 2\n├─ a old\n├─ a new\n");
        assert_eq!(lines(3), "├─ a 1\n├─ a 2\n├─ a new\n");
        assert_eq!(lines(2), "├─ a 1\n├─ a 2\n");
        assert_eq!(lines(1), "… 2 more lines\n");
        assert_eq!(frame.render(None, false).lines().count(), 4);
    }
}
