//! A file's documents as kubectl takes them apart: each is read by itself, so that a byte order mark before a later one, and
//! JSON objects one after the other, are read, too.

/// A part of a file that holds one document, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// Its text, without a byte order mark.
    pub(super) text: &'a str,
    /// Where the text starts in the file, in bytes.
    pub(super) at: usize,
    /// How many lines of the file end before it.
    pub(super) lines: usize,
    /// How many characters of its first line stand before it.
    pub(super) columns: usize,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

impl<'a> Chunk<'a> {
    fn new(file: &'a str, from: usize, until: usize, lines: usize, columns: usize) -> Self {
        let text = file.get(from..until).unwrap_or("");
        let body = text.trim_start_matches(BYTE_ORDER_MARK);
        Self { text: body, at: from + text.len() - body.len(), lines, columns }
    }
}

/// A file's chunks, in order. `---` at the start of a line begins one, wherever it stands: in YAML it ends all that is open.
/// What comes before the first is one only if it holds something.
pub(super) fn chunks(file: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut from, mut from_line) = (0, 0);
    // A mark or content; content.
    let (mut holds_something, mut holds_content) = (false, false);
    // After `...` come the directives of the next document.
    let mut ended = None;
    let mut at = 0;
    for (number, line) in file.split_inclusive('\n').enumerate() {
        let body = line.trim_start_matches(BYTE_ORDER_MARK);
        if body.len() < line.len() && !holds_content {
            // The document begins behind it, whatever came before.
            (from, from_line, holds_something) = (at, number, false);
        }
        if starts_document(body) {
            if holds_something {
                let (until, line) = ended.unwrap_or((at, number));
                chunks.push(Chunk::new(file, from, until, from_line, 0));
                (from, from_line) = (until, line);
            }
            (holds_something, holds_content, ended) = (true, false, None);
        } else if is_marker(body, "...") {
            ended = Some((at + line.len(), number + 1));
        } else if !(is_blank(body) || ended.is_some() && body.starts_with('%')) {
            holds_content |= !body.starts_with('%');
            holds_something |= holds_content;
            ended = None;
        }
        at += line.len();
    }
    chunks.push(Chunk::new(file, from, file.len(), from_line, 0));
    chunks
}

/// The JSON objects of a chunk that stand one after the other; `None` if it is something else.
pub(super) fn concatenated(chunk: Chunk<'_>) -> Option<Vec<Chunk<'_>>> {
    let mut objects = Vec::new();
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let (mut from, mut line, mut column) = (None, chunk.lines, chunk.columns);
    for (at, character) in chunk.text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => {
                if depth == 0 {
                    // Text, another bracket: no stream of objects.
                    if character != '{' {
                        return None;
                    }
                    from = Some((at, line, column));
                }
                depth += 1;
            }
            '}' | ']' => {
                depth = depth.checked_sub(1)?;
                if let (0, Some((start, lines, columns))) = (depth, from) {
                    let text = chunk.text.get(start..=at)?;
                    objects.push(Chunk { text, at: chunk.at + start, lines, columns });
                    from = None;
                }
            }
            _ if depth == 0 && !character.is_whitespace() => return None,
            _ => {}
        }
        column = if character == '\n' { 0 } else { column + 1 };
        line += usize::from(character == '\n');
    }
    (depth == 0 && !quoted && objects.len() > 1).then_some(objects)
}

fn starts_document(line: &str) -> bool {
    is_marker(line, "---")
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<(&str, usize)> {
        for chunk in chunks(file) {
            assert_eq!(file.get(chunk.at..chunk.at + chunk.text.len()), Some(chunk.text));
            assert_eq!(file[..chunk.at].matches('\n').count(), chunk.lines, "{chunk:?}");
        }
        chunks(file).iter().map(|chunk| (chunk.text, chunk.lines)).collect()
    }

    #[test]
    fn documents_are_taken_apart_at_their_marks() {
        assert_eq!(texts(""), [("", 0)]);
        assert_eq!(texts("a: 1\n"), [("a: 1\n", 0)]);
        assert_eq!(texts("# c\n\n---\na: 1\n--- # x\nb: 2"), [("# c\n\n---\na: 1\n", 0), ("--- # x\nb: 2", 4)]);
        assert_eq!(texts("---\n---\r\na: 1\n"), [("---\n", 0), ("---\r\na: 1\n", 1)]);
        assert_eq!(texts("a: ---\n ---\n----\n---a\n").len(), 1);
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n"), [("%YAML 1.2\n---\na: 1\n", 0)]);
        assert_eq!(
            texts("---\na: 1\n...\n# c\n%YAML 1.2\n---\nb: 2\n"),
            [("---\na: 1\n...\n", 0), ("# c\n%YAML 1.2\n---\nb: 2\n", 3)]
        );
        assert_eq!(texts("a: 1\n...\nb: 2\n"), [("a: 1\n...\nb: 2\n", 0)]);
    }

    #[test]
    fn a_byte_order_mark_before_any_document_is_no_part_of_it() {
        assert_eq!(
            texts("\u{feff}a: 1\n---\n\u{feff}\u{feff}---\nb: 2\n---\n\n\u{feff}c: 3\n"),
            [("a: 1\n", 0), ("---\nb: 2\n", 2), ("c: 3\n", 6)]
        );
        assert_eq!(texts("a: 1\n\u{feff}---\nb: 2\n"), [("a: 1\n", 0), ("---\nb: 2\n", 1)]);
    }

    #[test]
    fn json_objects_one_after_the_other_are_told_apart() {
        let objects = |text: &str| {
            let [chunk] = chunks(text)[..] else { panic!("{text}") };
            concatenated(chunk).map(|objects| {
                objects.iter().map(|found| (found.text.to_owned(), found.lines, found.columns)).collect::<Vec<_>>()
            })
        };
        let found = objects("{\"a\": \"}{\\\"\"}{\"b\":\n[1]}\n {\"c\": {}}\n").unwrap();
        let expected = [("{\"a\": \"}{\\\"\"}", 0, 0), ("{\"b\":\n[1]}", 0, 13), ("{\"c\": {}}", 2, 1)];
        assert_eq!(found, expected.map(|(text, lines, columns)| (text.to_owned(), lines, columns)));
        for other in [
            "{\"a\": 1}",
            "a: 1",
            "{\"a\": 1} b",
            "{\"a\": 1}[2]",
            "{\"a\": 1",
            "{\"a\": 1}}",
            "[1] [2]",
            "{} {\"",
        ] {
            assert_eq!(objects(other), None, "{other}");
        }
    }
}
