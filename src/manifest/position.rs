//! Where in a file a field is.

use super::tree::{self, Document, Kind, Node, Position};

/// One file's fields by path; read once, asked often.
#[derive(Debug)]
pub struct Locator {
    documents: Vec<Document>,
}

impl Locator {
    /// Reads a file. What is no YAML has no fields.
    pub fn new(text: &str) -> Self {
        Self { documents: tree::read(text).unwrap_or_default() }
    }

    /// Where the key of the field at `path` is in the `document`-th document (from 0); an item of a list, written as its
    /// index, has none and is there itself.
    pub fn key(&self, document: usize, path: &[&str]) -> Option<Position> {
        let (key, value) = self.find(document, path)?;
        Some(key.unwrap_or(value).at.clone())
    }

    /// The scalar at `path` as it is written in `text`, the text that was read: without quotes, and whatever it means.
    pub fn written<'t>(&self, text: &'t str, document: usize, path: &[&str]) -> Option<&'t str> {
        let (_, value) = self.find(document, path)?;
        match &value.kind {
            Kind::Scalar { .. } => text.get(value.at.range.clone()),
            Kind::Mapping { .. } | Kind::Sequence { .. } | Kind::Alias(_) => None,
        }
    }

    /// Key and value of the field at `path`.
    fn find(&self, document: usize, path: &[&str]) -> Option<(Option<&Node>, &Node)> {
        let mut node: &Node = &self.documents.get(document)?.root;
        let mut key = None;
        for part in path {
            let parent = node.target();
            (key, node) = match &parent.kind {
                Kind::Mapping { .. } => parent.entry(part).map(|(key, value)| (Some(&**key), &**value))?,
                Kind::Sequence { items, flow: _ } => (None, &**items.get(part.parse::<usize>().ok()?)?),
                Kind::Scalar { .. } | Kind::Alias(_) => return None,
            };
        }
        Some((key, node))
    }
}
