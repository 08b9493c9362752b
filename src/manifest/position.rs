//! Where in a file a field is.

use super::tree::{self, Kind, Node, Position};

/// Where the value at `path` is in the `document`-th document (from 0). List indexes are written as numbers.
///
/// `None` if the text is not YAML or has no such field.
pub fn locate(text: &str, document: usize, path: &[&str]) -> Option<Position> {
    find(text, document, path, |_, value| value.at.clone())
}

/// Like [`locate`], but where the last key of `path` is: for fields that should not be there.
pub fn locate_key(text: &str, document: usize, path: &[&str]) -> Option<Position> {
    find(text, document, path, |key, value| key.unwrap_or(value).at.clone())
}

fn find<T>(text: &str, document: usize, path: &[&str], pick: impl FnOnce(Option<&Node>, &Node) -> T) -> Option<T> {
    let documents = tree::read(text).ok()?;
    let mut node: &Node = &documents.get(document)?.root;
    let mut key = None;
    for part in path {
        let parent = node.target();
        (key, node) = match &parent.kind {
            Kind::Mapping { .. } => parent.entry(part).map(|(key, value)| (Some(&**key), &**value))?,
            Kind::Sequence { items, flow: _ } => (None, &**items.get(part.parse::<usize>().ok()?)?),
            Kind::Scalar { .. } | Kind::Alias(_) => return None,
        };
    }
    Some(pick(key, node))
}
