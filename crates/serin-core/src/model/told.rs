//! The one door for text that others wrote: error answers, bodies of webhooks, names in files, commands in annotations.
//!
//! Such text ends up in status, Events, logs, commits and terminals. It is short, on one line, and commands no terminal.

/// Longest foreign text, in bytes.
pub const TOLD_MAX: usize = 512;
/// Longest message made of several texts, in bytes: Kubernetes takes 1,024 in an Event.
pub const MESSAGE_MAX: usize = 1000;
/// Stands where something was cut out.
const CUT: &str = " … ";

/// The text on one line, without control characters, at most [`TOLD_MAX`] bytes. The middle is cut out: what is spoken of
/// stands first and the reason last. What has passed the door passes it again unchanged.
pub fn told(text: impl AsRef<str>) -> String {
    within(text.as_ref(), TOLD_MAX, Newlines::Out)
}

/// The same for a message that is made of several texts, at most [`MESSAGE_MAX`] bytes.
pub fn told_message(text: impl AsRef<str>) -> String {
    within(text.as_ref(), MESSAGE_MAX, Newlines::Out)
}

/// The same in at most so many bytes, where a place has a bound of its own.
pub fn told_within(text: impl AsRef<str>, most: usize) -> String {
    within(text.as_ref(), most, Newlines::Out)
}

/// The same for what people read in several lines: the excerpt of a file with its caret, the text of a pull request.
pub fn told_lines(text: impl AsRef<str>, most: usize) -> String {
    within(text.as_ref(), most, Newlines::Stay)
}

/// On one line and at most so many *characters*: where another system counts them so.
pub fn told_chars(text: impl AsRef<str>, most: usize) -> String {
    /// Bytes of the longest character.
    const WIDEST: usize = 4;
    let text = within(text.as_ref(), most.saturating_mul(2 * WIDEST), Newlines::Out);
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let room = most.saturating_sub(CUT.chars().count());
    let tail = room / 2;
    let head: String = text.chars().take(room - tail).collect();
    let tail: String = text.chars().skip(count - tail).collect();
    format!("{head}{CUT}{tail}")
}

/// Whether a text is one line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newlines {
    Out,
    Stay,
}

fn within(text: &str, most: usize, newlines: Newlines) -> String {
    let goes = |it: char| is_control(it) && !(it == '\n' && newlines == Newlines::Stay);
    if text.len() <= most && !text.chars().any(goes) {
        return text.to_owned();
    }
    // Of a very long text only what can be kept is looked at.
    let (head, tail) = match text.len() > 4 * most {
        true => (&text[..boundary_before(text, 2 * most)], &text[boundary_after(text, text.len() - 2 * most)..]),
        false => (text, ""),
    };
    let (head, tail) = (plain(head, newlines), plain(tail, newlines));
    if tail.is_empty() && head.len() <= most {
        return head;
    }
    let end = if tail.is_empty() { head.as_str() } else { tail.as_str() };
    let room = most.saturating_sub(CUT.len());
    let first = &head[..boundary_before(&head, room / 2)];
    let last = &end[boundary_after(end, end.len().saturating_sub(room - room / 2))..];
    format!("{first}{CUT}{last}")
}

/// Tabs and, in one line, newlines become blanks, other control characters go.
fn plain(text: &str, newlines: Newlines) -> String {
    let visible = text.chars().filter_map(|it| match it {
        '\n' if newlines == Newlines::Stay => Some(it),
        '\n' | '\r' | '\t' => Some(' '),
        it if is_control(it) => None,
        it => Some(it),
    });
    visible.collect::<String>().trim().to_owned()
}

/// Characters that move a cursor, change a terminal, or change the order in which others are shown.
fn is_control(it: char) -> bool {
    it.is_control()
        || matches!(it, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn boundary_after(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_keeps_its_beginning_and_its_reason() {
        for middle in [1_000, 5_000, 3_000_000] {
            let text = format!("failed to ask prometheus: {} connection refused", "x".repeat(middle));
            let short = told(&text);
            assert!(short.len() <= TOLD_MAX, "{}", short.len());
            assert!(short.starts_with("failed to ask prometheus: x") && short.ends_with("x connection refused"));
            assert!(short.contains(CUT));
        }
        let wide = told("ü".repeat(10_000));
        assert!(wide.len() <= TOLD_MAX && wide.starts_with('ü') && wide.ends_with('ü'));
    }

    #[test]
    fn nothing_commands_a_terminal_or_begins_a_line() {
        let text = "a\u{1b}[2J\u{1b}]0;x\u{7}\r\nforged\u{9b}31m \u{202e}txt\u{0}";
        let plain = told(text);
        assert_eq!(plain, "a[2J]0;x  forged31m txt");
        assert_eq!(told(&plain), plain);
    }

    #[test]
    fn several_lines_stay_several_and_command_nothing_either() {
        let text = "app.yaml:1: bad\n  |\n\u{1b}[2J1 | a\r\n  | ^\u{9b}";
        assert_eq!(told_lines(text, 600), "app.yaml:1: bad\n  |\n[2J1 | a \n  | ^");
        for most in [20, 140, 600] {
            let long = "é\n".repeat(5_000);
            assert!(told_lines(&long, most).len() <= most && told_within(&long, most).len() <= most);
            assert!(!told_within(&long, most).contains('\n'));
            assert_eq!(told_chars("é".repeat(5_000), most).chars().count(), most);
            let mixed = told_chars("ab\n日本".repeat(1_000), most);
            assert!(mixed.chars().count() <= most && !mixed.contains('\n'));
        }
    }

    #[test]
    fn what_has_passed_passes_again_unchanged() {
        for text in ["", "plain", &"a b\n".repeat(400), &"é\n".repeat(9_000)] {
            let once = told(text);
            assert_eq!(told(&once), once);
            assert!(told_message(text).len() <= MESSAGE_MAX);
        }
    }
}
