//! One thing to tell the author of a manifest, with file, line and caret.

use serde::Serialize;

use crate::cli::output::Paint;
use crate::manifest::{self, Manifest, ManifestError};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Severity {
    /// The daemon would refuse or hold the object.
    Error,
    /// It may be right, depending on what is outside of Git.
    Warning,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    /// From 1.
    pub(super) column: usize,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snippet: Option<String>,
}

impl Finding {
    /// A file that is not YAML as Kubernetes reads it.
    pub(super) fn syntax(error: &ManifestError) -> Self {
        let (line, column) = error.position().unwrap_or((1, 1));
        Self {
            severity: Severity::Error,
            file: error.file().to_owned(),
            line,
            column,
            message: error.to_string(),
            snippet: error.snippet().map(str::to_owned),
        }
    }

    /// Something about the field at `path` of `manifest`; points at the nearest ancestor that exists.
    pub(super) fn at(severity: Severity, text: &str, manifest: &Manifest, path: &str, message: String) -> Self {
        let segments = segments(path);
        let found = (0..=segments.len()).rev().find_map(|length| {
            manifest::locate(text, manifest.document, segments.get(..length).unwrap_or_default())
        });
        let (line, column, width) = found.map_or((manifest.line as usize, 1, 1), |location| {
            (location.line, location.column, location.width)
        });
        let snippet = text.lines().nth(line.saturating_sub(1)).map(|source| caret(source, line, column, width));
        Self { severity, file: manifest.file.clone(), line, column, message, snippet }
    }

    /// `file:line:column: error: message` and the line with a caret.
    pub(super) fn render(&self, colours: bool) -> String {
        let Self { severity, file, line, column, message, snippet } = self;
        let word = match severity {
            Severity::Error => Paint::Red.apply("error", colours),
            Severity::Warning => Paint::Yellow.apply("warning", colours),
        };
        let snippet = snippet.as_deref().map(|snippet| format!("{}\n", snippet.trim_end())).unwrap_or_default();
        format!("{file}:{line}:{column}: {word}: {message}\n{snippet}")
    }
}

/// `spec.metrics[0].name` as `["spec", "metrics", "0", "name"]`.
fn segments(path: &str) -> Vec<&str> {
    path.split(['.', '[', ']']).filter(|segment| !segment.is_empty()).collect()
}

fn caret(source: &str, line: usize, column: usize, width: usize) -> String {
    let rest = source.chars().count().saturating_sub(column - 1).max(1);
    let marks = "^".repeat(width.clamp(1, rest));
    format!("{line:>5} | {source}\n      | {}{marks}", " ".repeat(column.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_at_dots_and_brackets() {
        assert_eq!(segments("spec.metrics[0].name"), ["spec", "metrics", "0", "name"]);
        assert!(segments("").is_empty());
    }

    #[test]
    fn the_caret_stands_under_the_field() {
        assert_eq!(caret("  port: x", 7, 3, 4), "    7 |   port: x\n      |   ^^^^");
    }
}
