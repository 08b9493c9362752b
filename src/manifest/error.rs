//! Errors that point into a file: position, the line with a caret, a hint.

use std::fmt::Write as _;

/// Longest part of a source line that a snippet shows, in characters: wide enough for a terminal.
const SNIPPET_WIDTH: usize = 100;

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
}

impl ManifestError {
    /// Several lines for a terminal: the message, the source line with a caret, the hint.
    pub fn render(&self) -> String {
        let Self { file, line, column, message, hint, snippet } = self;
        let mut out = format!("{file}:{line}:{column}: {message}\n{snippet}");
        if let Some(hint) = hint {
            // Writing to a string cannot fail.
            write!(out, "\n  hint: {hint}").unwrap_or_default();
        }
        out
    }
}

/// The source line `line` (from 1) with a caret line under `column` (from 1), `width` characters wide.
pub fn snippet(text: &str, line: u32, column: u32, width: usize) -> String {
    let source = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim_end();
    let at = column.saturating_sub(1) as usize;
    let skip = if at >= SNIPPET_WIDTH { at - SNIPPET_WIDTH / 2 } else { 0 };
    // A tab keeps its width in both lines, so the caret stays under its character.
    let shown: String = source.chars().skip(skip).take(SNIPPET_WIDTH).collect();
    let pad: String = shown.chars().chain(std::iter::repeat(' ')).take(at - skip).map(blank).collect();
    let room = shown.chars().count().saturating_sub(at - skip).max(1);
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    format!(" {gutter} |\n {number} | {shown}\n {gutter} | {pad}{}", "^".repeat(width.clamp(1, room)))
}

fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// Files of a Helm chart that are YAML and no templates.
const CHART_FILES: [&str; 4] = ["Chart.yaml", "Chart.lock", "requirements.yaml", "values.yaml"];

/// A hint for text that is no manifest but something that people keep beside manifests.
pub(super) fn hint_for(path: &str, text: &str, line: u32) -> Option<String> {
    let source = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("");
    let name = path.rsplit('/').next().unwrap_or(path);
    let hint = if source.contains("{{") || (text.lines().any(is_template) && text.contains("}}")) {
        "this looks like a Helm template: render it first (`helm template`) and commit the result"
    } else if CHART_FILES.contains(&name) {
        "this looks like a file of a Helm chart: render the chart first (`helm template`) and commit the result"
    } else if text.contains("kustomize.config.k8s.io") || name.starts_with("kustomization.") {
        "commit what `kubectl kustomize` prints instead"
    } else if ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|mark| source.starts_with(mark)) {
        "a merge conflict was committed: resolve it"
    } else if source.trim_start_matches(' ').starts_with('\t') {
        "YAML is indented with spaces, not with tabs"
    } else {
        return None;
    };
    Some(hint.to_owned())
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
        let text = "a: 1\n\tbé: ü2\n";
        assert_eq!(snippet(text, 2, 6, 2), "   |\n 2 | \tbé: ü2\n   | \t    ^^");
        assert_eq!(snippet("x", 9, 1, 1), "   |\n 9 | \n   | ^");
    }
}
