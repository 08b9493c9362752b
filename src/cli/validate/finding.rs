//! One thing to tell the author of a manifest, with file, line and caret.

use serde::Serialize;

use crate::cli::output::Paint;
use crate::manifest::{self, Manifest, ManifestError};

use super::files::Source;

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
    pub(super) line: u32,
    /// From 1.
    pub(super) column: u32,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snippet: Option<String>,
}

impl Finding {
    /// A file that is not YAML as Kubernetes reads it.
    pub(super) fn syntax(error: &ManifestError) -> Self {
        let ManifestError { file, line, column, message, hint, snippet, object: _ } = error;
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        Self {
            severity: Severity::Error,
            file: file.clone(),
            line: *line,
            column: *column,
            message: format!("{message}{hint}"),
            snippet: Some(snippet.clone()),
        }
    }

    /// A file that is not read at all.
    pub(super) fn unread(file: String, why: &str) -> Self {
        let message = format!("not read: {why}");
        Self { severity: Severity::Error, file, line: 1, column: 1, message, snippet: None }
    }

    /// Something about the field at `path` of `manifest`; points at the nearest ancestor that exists.
    pub(super) fn at(
        severity: Severity,
        source: &Source,
        manifest: &Manifest,
        path: &str,
        message: String,
    ) -> Self {
        let whole = match manifest.item {
            Some(item) => format!("items[{item}].{path}"),
            None => path.to_owned(),
        };
        let segments = segments(&whole);
        let found = (0..=segments.len()).rev().find_map(|length| {
            source.locator().key(manifest.document, segments.get(..length).unwrap_or_default())
        });
        let text = source.text.as_str();
        let (line, column, width) = found.map_or((manifest.line, 1, 1), |position| {
            let width = text.get(position.range.clone()).map_or(1, |key| key.lines().next().map_or(1, str::len));
            (position.line, position.column, u32::try_from(width).unwrap_or(1).max(1))
        });
        let snippet = Some(manifest::snippet(source.line(line), line, column, width as usize));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_at_dots_and_brackets() {
        assert_eq!(segments("spec.metrics[0].name"), ["spec", "metrics", "0", "name"]);
        assert!(segments("").is_empty());
    }
}
