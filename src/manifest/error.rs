//! Errors that point into a file: position, the line with a caret, a hint.

use std::cell::OnceCell;
use std::fmt::Write as _;

use super::lines::LineIndex;
use super::tree::{Fault, Position};
use crate::model::ObjectRef;

/// Longest part of a source line that a snippet shows, in characters: wide enough for a terminal.
const SNIPPET_WIDTH: usize = 100;
/// Longest message, in characters: it may quote a key or a value of any length.
const MESSAGE_CHARS_MAX: usize = 400;
/// Most faults of one file that are told one by one: nobody reads on, and the file is the wrong one as a rule.
const FAULTS_MAX: usize = 100;

/// Something in a manifest file that cannot be read, and where.
///
/// `Display` is one line; [`ManifestError::render`] adds the source line with a caret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}{}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct ManifestError {
    /// Path as given to [`super::parse`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The source line with a caret under the column.
    pub snippet: String,
    /// The object that it is about, where that much can be read.
    pub object: Option<Box<ObjectRef>>,
}

impl ManifestError {
    /// Several lines for a terminal: the message, the source line with a caret, the hint.
    pub fn render(&self) -> String {
        let Self { file, line, column, message, hint, snippet, object: _ } = self;
        let mut out = format!("{file}:{line}:{column}: {message}\n{snippet}");
        if let Some(hint) = hint {
            // Writing to a string cannot fail.
            write!(out, "\n  hint: {hint}").unwrap_or_default();
        }
        out
    }
}

/// The line `line` (from 1) of a file, given as its text, with a caret line under `column` (from 1), `width` characters wide.
pub fn snippet(source: &str, line: u32, column: u32, width: usize) -> String {
    let source = source.trim_end();
    let at = column.saturating_sub(1) as usize;
    let skip = if at >= SNIPPET_WIDTH { at - SNIPPET_WIDTH / 2 } else { 0 };
    // A tab keeps its width in both lines, so the caret stays under its character.
    let shown: String = source.chars().skip(skip).take(SNIPPET_WIDTH).map(harmless).collect();
    let pad: String = shown.chars().chain(std::iter::repeat(' ')).take(at - skip).map(blank).collect();
    let room = shown.chars().count().saturating_sub(at - skip).max(1);
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    format!(" {gutter} |\n {number} | {shown}\n {gutter} | {pad}{}", "^".repeat(width.clamp(1, room)))
}

fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// What stands for a character in what is printed: terminals obey control characters, and text that runs backwards hides
/// what it says.
fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    if c != '\t' && (c.is_control() || turns) { char::REPLACEMENT_CHARACTER } else { c }
}

/// A message that may quote the file: bounded, cut in the middle, without anything that a terminal obeys.
fn bounded(message: &str) -> String {
    let count = message.chars().count();
    let cleaned = message.chars().map(harmless);
    if count <= MESSAGE_CHARS_MAX {
        return cleaned.collect();
    }
    let half = MESSAGE_CHARS_MAX / 2;
    let (head, tail) = (cleaned.clone().take(half), cleaned.skip(count - half));
    head.chain(['…']).chain(tail).collect()
}

/// Makes errors of the faults of one file; what it needs of the whole text is found once.
pub(super) struct Faults<'a> {
    path: &'a str,
    text: &'a str,
    lines: OnceCell<LineIndex>,
    /// The hint that is the same for all of the file.
    common: OnceCell<Option<&'static str>>,
    errors: Vec<ManifestError>,
    /// Where the first fault is that is only counted, and how many there are.
    further: Option<(Position, usize)>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        let (lines, common) = (OnceCell::new(), OnceCell::new());
        Self { path, text, lines, common, errors: Vec::new(), further: None }
    }

    /// Adds a fault, about an object if that is known.
    pub(super) fn add(&mut self, fault: Fault, object: Option<ObjectRef>) {
        let Fault { at, message } = fault;
        match &mut self.further {
            Some((_, count)) => *count += 1,
            None if self.errors.len() >= FAULTS_MAX => self.further = Some((at, 1)),
            None => self.errors.push(self.error(&at, &message, object)),
        }
    }

    /// All of them, in order.
    pub(super) fn into_errors(mut self) -> Vec<ManifestError> {
        if let Some((at, count)) = self.further.take() {
            let message = format!("and {count} more things from here on that cannot be read");
            self.errors.push(self.error(&at, &message, None));
        }
        self.errors
    }

    fn error(&self, at: &Position, message: &str, object: Option<ObjectRef>) -> ManifestError {
        let source = self.line(at.line);
        let part = self.text.get(at.range.clone()).unwrap_or("");
        let width = part.chars().take(SNIPPET_WIDTH).take_while(|c| *c != '\n').count();
        ManifestError {
            file: self.path.to_owned(),
            line: at.line,
            column: at.column,
            message: bounded(message),
            hint: self.hint(source).map(str::to_owned),
            snippet: snippet(source, at.line, at.column, width),
            object: object.map(Box::new),
        }
    }

    fn line(&self, number: u32) -> &'a str {
        self.lines.get_or_init(|| LineIndex::new(self.text)).line(self.text, number)
    }

    /// A hint for text that is no manifest but something that people keep beside manifests.
    fn hint(&self, source: &str) -> Option<&'static str> {
        if source.contains("{{") {
            return Some(TEMPLATE);
        }
        let common = self.common.get_or_init(|| common_hint(self.path, self.text));
        common.or_else(|| {
            if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| source.starts_with(mark)) {
                Some("a merge conflict was committed: resolve it")
            } else if source.trim_start_matches(' ').starts_with('\t') {
                Some("YAML is indented with spaces, not with tabs")
            } else {
                None
            }
        })
    }
}

/// Files of a Helm chart that are YAML and no templates.
const CHART_FILES: [&str; 4] = ["Chart.yaml", "Chart.lock", "requirements.yaml", "values.yaml"];
/// Said of templates.
const TEMPLATE: &str = "this looks like a Helm template: render it first (`helm template`) and commit the result";

fn common_hint(path: &str, text: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if text.contains("}}") && text.lines().any(is_template) {
        Some(TEMPLATE)
    } else if CHART_FILES.contains(&name) {
        Some(
            "this looks like a file of a Helm chart: render the chart first (`helm template`) and commit the result",
        )
    } else if text.contains("kustomize.config.k8s.io") || name.starts_with("kustomization.") {
        Some("commit what `kubectl kustomize` prints, or name a folder that a kustomization.yaml is in")
    } else {
        None
    }
}

/// Whether a line is Go's template language: an action where YAML has a value, a key or nothing, not somewhere in a text.
fn is_template(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let value = line.split_once(": ").map_or(line, |(_, value)| value.trim_start());
    line.starts_with("{{") || value.starts_with("{{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_stands_under_the_column() {
        assert_eq!(snippet("\tbé: ü2", 2, 6, 2), "   |\n 2 | \tbé: ü2\n   | \t    ^^");
        assert_eq!(snippet("", 9, 1, 1), "   |\n 9 | \n   | ^");
    }

    #[test]
    fn nothing_in_a_file_is_obeyed_by_a_terminal() {
        let shown = snippet("a: \u{1b}[2J\u{202e}b", 1, 1, 1);
        assert!(shown.contains("a: \u{fffd}[2J\u{fffd}b"), "{shown:?}");
        let long = bounded(&format!("key {}\u{7} is wrong", "x".repeat(100_000)));
        assert!(long.chars().count() <= MESSAGE_CHARS_MAX + 1, "{}", long.len());
        assert!(long.starts_with("key x") && long.ends_with("x\u{fffd} is wrong"), "{long}");
    }

    #[test]
    fn many_faults_cost_what_a_hundred_do() {
        let text = "x\n".repeat(200_000);
        let mut faults = Faults::new("m.yaml", &text);
        for line in 1..=200_000 {
            let at = Position { range: 0..1, line, column: 1 };
            faults.add(Fault { at, message: "no".to_owned() }, None);
        }
        let errors = faults.into_errors();
        assert_eq!(errors.len(), FAULTS_MAX + 1);
        let last = errors.last().unwrap();
        assert_eq!(
            (last.line, last.message.as_str()),
            (101, "and 199900 more things from here on that cannot be read")
        );
    }
}
