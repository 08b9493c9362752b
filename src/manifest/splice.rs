//! Putting one field of one object back in a file, touching no other byte than must be.
//!
//! The smallest splice that does it wins: single scalars first, then entries and items, then the whole node. Every result
//! is parsed again and compared: the field must be what was wanted and nothing else may differ, or there is no result.

mod edit;

use serde_json::Value;

use crate::model::ObjectRef;

use super::read::parse_each;
use super::tree::{self, Document, Kind, Node};

use edit::{Edit, Planner, Style};

/// Why a field cannot be put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// A text is no YAML (any more).
    #[error("the {which} file cannot be read: {message}")]
    Unreadable {
        /// `current` or `promoted`.
        which: &'static str,
        /// The parser's words.
        message: String,
    },
    /// The object is not there, or more than once.
    #[error("{object} is {count} times in the {which} file, expected once")]
    NotOnce {
        /// The object.
        object: String,
        /// `current` or `promoted`.
        which: &'static str,
        /// How often it was found.
        count: usize,
    },
    /// The field is not there.
    #[error("{object} has no {path} in the {which} file")]
    NoField {
        /// The object.
        object: String,
        /// The field.
        path: String,
        /// `current` or `promoted`.
        which: &'static str,
    },
    /// No splice gives exactly the wanted file.
    #[error("{path} of {object} cannot be put back without changing something else: {reason}")]
    Entangled {
        /// The object.
        object: String,
        /// The field.
        path: String,
        /// What stands in the way.
        reason: String,
    },
}

/// What is tried, the smallest first: how far down a plan goes, whether aliases stay because their anchor's edit may give the
/// value, whether block scalars are taken with the blank lines at their end, which may be content, and whether values are
/// written as JSON, which stands everywhere, in place of the promoted bytes.
const ATTEMPTS: [(Style, bool, bool, bool); 7] = [
    (Style::Smallest, true, false, false),
    (Style::Smallest, false, false, false),
    (Style::Smallest, false, true, false),
    (Style::Whole, false, false, false),
    (Style::Whole, false, true, false),
    (Style::Smallest, false, false, true),
    (Style::Whole, false, false, true),
];

/// Whether a text is JSON, one value after the other: other tools read it as that, and it has to stay so.
fn is_json(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>().peekable();
    values.peek().is_some() && values.all(|value| value.is_ok())
}

/// The text of `tip` with the field `path` (e.g. `["spec", "template"]`) of `object` as it is in `promoted`.
///
/// All other bytes stay; of the field itself only what differs is replaced. Returned unchanged if nothing differs.
///
/// # Errors
/// If either text cannot be read, the object or field is missing, or no splice changes only that field (for example
/// because an anchor shares it with something else).
pub fn restore(tip: &str, object: &ObjectRef, path: &[&str], promoted: &str) -> Result<String, SpliceError> {
    let (tip_bom, tip) = split_bom(tip);
    let (_, promoted) = split_bom(promoted);
    let tip_docs = read("current", tip)?;
    let promoted_docs = read("promoted", promoted)?;
    let (at, tip_object) = find("current", &tip_docs, object)?;
    let (_, promoted_object) = find("promoted", &promoted_docs, object)?;
    let what = object.to_string();
    let whole = (tip, promoted, tip_docs.as_slice());
    let edited = put_back(whole, &what, (at, &tip_object, path), (&promoted_object, path))?;
    Ok(format!("{tip_bom}{edited}"))
}

/// The text of `tip` with what is at `path` of its first document as it is at `promoted_path` in `promoted`: keys, and places in
/// lists by their number.
///
/// # Errors
/// As [`restore`].
pub fn restore_at(
    tip: &str,
    path: &[&str],
    promoted: &str,
    promoted_path: &[&str],
) -> Result<String, SpliceError> {
    let (tip_bom, tip) = split_bom(tip);
    let (_, promoted) = split_bom(promoted);
    let (tip_docs, promoted_docs) = (read("current", tip)?, read("promoted", promoted)?);
    let first = |which, documents: &[Document]| {
        let mut all =
            documents.iter().enumerate().filter(|(_, document)| document.root.value() != Ok(Value::Null));
        let found =
            all.next().map(|(number, document)| (number, Place { node: document.root.clone(), in_flow: false }));
        found.ok_or_else(|| SpliceError::NoField { object: "the file".to_owned(), path: path.join("."), which })
    };
    let (number, tip_root) = first("current", &tip_docs)?;
    let (_, promoted_root) = first("promoted", &promoted_docs)?;
    let whole = (tip, promoted, tip_docs.as_slice());
    let edited = put_back(whole, "the file", ((number, None), &tip_root, path), (&promoted_root, promoted_path))?;
    Ok(format!("{tip_bom}{edited}"))
}

/// Plans and proves the splice of one field.
fn put_back(
    (tip, promoted, tip_docs): (&str, &str, &[Document]),
    object: &str,
    (at, tip_object, path): (Address, &Place, &[&str]),
    (promoted_object, promoted_path): (&Place, &[&str]),
) -> Result<String, SpliceError> {
    let field = |which, root: &Place, path: &[&str]| {
        descend(root, path).ok_or_else(|| SpliceError::NoField {
            object: object.to_owned(),
            path: path.join("."),
            which,
        })
    };
    let tip_place = field("current", tip_object, path)?;
    let promoted_place = field("promoted", promoted_object, promoted_path)?;
    let wanted =
        Wanted::new(tip_docs, at, path, &promoted_place.node).map_err(|reason| entangled(object, path, reason))?;
    let mut reason = String::from("no edit applies");
    let json = is_json(tip);
    for (style, keep_aliases, exact, as_json) in ATTEMPTS {
        let planner = Planner { tip, promoted, style, keep_aliases, exact, json: json || as_json };
        let edits = planner.plan(&tip_place, &promoted_place);
        let stays_json = |text: String| {
            if json && !is_json(&text) { Err("it would be JSON no more".to_owned()) } else { Ok(text) }
        };
        match edits.and_then(|edits| wanted.check(apply(tip, edits)?)).and_then(stays_json) {
            Ok(text) => return Ok(text),
            Err(why) => reason = why,
        }
    }
    Err(entangled(object, path, reason))
}

/// The value at `path` of `object` in a file, `None` if there is no such object or field.
pub fn value_at(text: &str, object: &ObjectRef, path: &[&str]) -> Option<Value> {
    let parsed = parse_each("", text);
    let found = parsed.manifests.iter().find(|manifest| manifest.object_ref() == *object)?;
    path.iter().try_fold(&found.object, |value, key| value.get(key)).cloned()
}

fn split_bom(text: &str) -> (&str, &str) {
    text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest))
}

fn entangled(object: &str, path: &[&str], reason: String) -> SpliceError {
    SpliceError::Entangled { object: object.to_string(), path: path.join("."), reason }
}

fn read(which: &'static str, text: &str) -> Result<Vec<Document>, SpliceError> {
    tree::read(text).map_err(|fault| SpliceError::Unreadable {
        which,
        message: format!("line {}: {}", fault.at.line, fault.message),
    })
}

/// A node and whether it stands inside `{}` or `[]`.
pub(super) struct Place {
    node: std::rc::Rc<Node>,
    in_flow: bool,
}

/// Document number and, in a List, item number.
type Address = (usize, Option<usize>);

fn find(which: &'static str, documents: &[Document], object: &ObjectRef) -> Result<(Address, Place), SpliceError> {
    let mut found = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        let root = &document.root;
        if is_object(root, object) {
            found.push(((number, None), Place { node: root.clone(), in_flow: false }));
        }
        let Some((_, items)) = root.entry("items") else { continue };
        if let Kind::Sequence { items, flow } = &items.kind {
            let in_flow = *flow || is_flow(root);
            for (index, item) in items.iter().enumerate().filter(|(_, item)| is_object(item, object)) {
                found.push(((number, Some(index)), Place { node: item.clone(), in_flow }));
            }
        }
    }
    let count = found.len();
    match found.pop() {
        Some(only) if count == 1 => Ok(only),
        _ => Err(SpliceError::NotOnce { object: object.to_string(), which, count }),
    }
}

fn is_object(node: &Node, object: &ObjectRef) -> bool {
    let text = |path: &[&str]| {
        let value = path.iter().try_fold(node, |node, key| node.target().entry(key).map(|(_, value)| &**value));
        value
            .and_then(|node| node.value().ok())
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let group = text(&["apiVersion"]).split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    text(&["kind"]) == object.kind
        && text(&["metadata", "name"]) == object.name
        && group == object.group
        && text(&["metadata", "namespace"]) == object.namespace.as_deref().unwrap_or("")
}

fn is_flow(node: &Node) -> bool {
    matches!(&node.kind, Kind::Mapping { flow: true, .. } | Kind::Sequence { flow: true, .. })
}

fn descend(object: &Place, path: &[&str]) -> Option<Place> {
    let mut place = Place { node: object.node.clone(), in_flow: object.in_flow };
    for key in path {
        let in_flow = place.in_flow || is_flow(&place.node);
        // An alias on the way would lead out of this object: it has no bytes of its own here.
        let value = match &place.node.kind {
            Kind::Sequence { items, .. } => items.get(key.parse::<usize>().ok()?)?,
            _ => place.node.entry(key)?.1,
        };
        place = Place { node: value.clone(), in_flow };
    }
    Some(place)
}

impl Place {
    fn node(&self) -> &Node {
        &self.node
    }
}

/// The values of all documents once the edit is done.
struct Wanted {
    documents: Vec<Value>,
}

impl Wanted {
    fn new(documents: &[Document], at: Address, path: &[&str], promoted: &Node) -> Result<Self, String> {
        let mut values = Vec::with_capacity(documents.len());
        for document in documents {
            values.push(document.root.value().map_err(|fault| fault.message)?);
        }
        let replacement = promoted.value().map_err(|fault| fault.message)?;
        let (number, item) = at;
        let mut target = values.get_mut(number).ok_or("the document is gone")?;
        if let Some(index) = item {
            target = target.pointer_mut(&format!("/items/{index}")).ok_or("the item is gone")?;
        }
        for key in path {
            let next = match target {
                Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
                target => target.get_mut(*key),
            };
            target = next.ok_or("the field is gone")?;
        }
        *target = replacement;
        Ok(Self { documents: values })
    }

    fn check(&self, text: String) -> Result<String, String> {
        let documents = tree::read(&text).map_err(|fault| format!("line {}: {}", fault.at.line, fault.message))?;
        let values: Result<Vec<Value>, _> = documents.iter().map(|document| document.root.value()).collect();
        let values = values.map_err(|fault| format!("line {}: {}", fault.at.line, fault.message))?;
        if values == self.documents {
            return Ok(text);
        }
        Err("it is shared through an anchor or written in a way that cannot be spliced".to_owned())
    }
}

/// Applies edits that do not overlap.
fn apply(text: &str, mut edits: Vec<Edit>) -> Result<String, String> {
    edits.sort_by_key(|edit| edit.range.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for Edit { range, text: replacement } in edits {
        let kept = text.get(done..range.start).ok_or("edits overlap")?;
        out.push_str(kept);
        out.push_str(&replacement);
        done = range.end;
    }
    out.push_str(text.get(done..).ok_or("an edit ends outside the file")?);
    Ok(out)
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "splice_properties.rs"]
mod properties;
