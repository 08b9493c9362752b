//! A YAML file as a tree of nodes with exact byte ranges: what reading, carets and in-place edits share.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::scalar::{self, Quoting};

/// Deepest nesting: Kubernetes objects stay below 30, and recursion must end before the stack does.
const DEPTH_MAX: usize = 100;
/// Most nodes of one file, aliases expanded: far above a big CRD bundle (50,000), and it stops alias bombs.
const NODES_MAX: usize = 500_000;

/// Where something is: a byte range, and line and column (in characters) from 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Bytes of the file.
    pub range: Range<usize>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A problem at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) message: String,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    /// Its content, without anchor and tag. A collection ends with its last content, not with what follows.
    pub(super) at: Position,
    /// It carries an anchor: other places may repeat it.
    pub(super) anchored: bool,
    /// An explicit tag's core suffix, or the whole tag.
    pub(super) tag: Option<String>,
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar {
        text: String,
        quoting: Quoting,
        block: bool,
    },
    Sequence {
        items: Vec<Rc<Node>>,
        flow: bool,
    },
    Mapping {
        entries: Vec<(Rc<Node>, Rc<Node>)>,
        flow: bool,
    },
    /// What the alias stands for.
    Alias(Rc<Node>),
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Rc<Node>,
}

/// All documents of a file; empty ones are kept, so that numbers stay stable.
pub(super) fn read(text: &str) -> Result<Vec<Document>, Fault> {
    // Comments would only be dropped here: edits copy bytes, they do not need to know which of them are comments.
    let parser = Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false });
    let mut reader = Reader { parser, text, anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some((event, _)) = reader.next()? {
        if let Event::DocumentStart(..) = event {
            reader.anchors.clear();
            let Some((event, span)) = reader.next()? else { break };
            documents.push(Document { root: reader.node(event, span, 0)? });
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    text: &'a str,
    anchors: HashMap<usize, (Rc<Node>, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        match self.parser.next_event().transpose() {
            Ok(found) => Ok(found),
            Err(error) => {
                let mark = error.marker();
                let start = mark.byte_offset().unwrap_or(0);
                let at = Position { range: start..start, line: count(mark.line()), column: count(mark.col() + 1) };
                Err(Fault { at, message: error.info() })
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Fault> {
        let mut at = position(&span);
        if depth > DEPTH_MAX {
            return Err(Fault { at, message: format!("nested more than {DEPTH_MAX} levels deep") });
        }
        self.nodes += 1;
        let before = self.nodes;
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // A value that is not there at all is reported as `~`.
                let text = if at.range.is_empty() && plain { String::new() } else { text.into_owned() };
                let quoting = if plain { Quoting::Plain } else { Quoting::Quoted };
                (Kind::Scalar { text, quoting, block }, anchor, tag)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let (items, end) = self.sequence(depth)?;
                let flow = style == StructureStyle::Flow;
                at.range.end =
                    if flow { end } else { items.last().map_or(at.range.end, |item| item.at.range.end) };
                (Kind::Sequence { items, flow }, anchor, tag)
            }
            Event::MappingStart(style, anchor, tag) => {
                let (entries, end) = self.mapping(depth)?;
                let flow = style == StructureStyle::Flow;
                if let (false, Some((first, last))) = (flow, entries.first().zip(entries.last())) {
                    let (_, value) = last;
                    at = Position { range: first.0.at.range.start..value.at.range.end, ..first.0.at.clone() };
                } else {
                    at.range.end = end;
                }
                (Kind::Mapping { entries, flow }, anchor, tag)
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(Fault { at, message: "an anchor must not contain itself".to_owned() });
                };
                self.nodes += size;
                (Kind::Alias(Rc::clone(node)), 0, None)
            }
            _ => return Err(Fault { at, message: "expected a value".to_owned() }),
        };
        if self.nodes > NODES_MAX {
            return Err(Fault { at, message: format!("more than {NODES_MAX} values, aliases expanded") });
        }
        let node = Rc::new(Node { at, anchored: anchor > 0, tag: tag.as_deref().map(tag_text), kind });
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Rc<Node>>, usize), Fault> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok((items, position(&span).range.end));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok((items, self.text.len()))
    }

    #[expect(clippy::type_complexity, reason = "the pairs are read once, right above")]
    fn mapping(&mut self, depth: usize) -> Result<(Vec<(Rc<Node>, Rc<Node>)>, usize), Fault> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                return Ok((entries, position(&span).range.end));
            }
            let key = self.node(event, span, depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            let mut value = self.node(event, span, depth + 1)?;
            if let (true, Some(node)) = (value.at.range.is_empty(), Rc::get_mut(&mut value)) {
                // An absent value sits right behind `key:`; the parser reports where the next token starts.
                let colon = self.text.get(key.at.range.end..).and_then(|rest| rest.find(':'));
                let end = key.at.range.end + colon.map_or(0, |offset| offset + 1);
                node.at = Position { range: end..end, ..key.at.clone() };
            }
            entries.push((key, value));
        }
        Ok((entries, self.text.len()))
    }
}

fn tag_text(tag: &Tag) -> String {
    tag.suffix_in_namespace("tag:yaml.org,2002:").map_or_else(|| tag.original(), |suffix| suffix.into_owned())
}

fn position(span: &Span) -> Position {
    let range = span.byte_range().unwrap_or_default();
    Position { range, line: count(span.start.line()), column: count(span.start.col() + 1) }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Node {
    /// Follows an alias.
    pub(super) fn target(&self) -> &Self {
        match &self.kind {
            Kind::Alias(node) => node.target(),
            Kind::Scalar { .. } | Kind::Sequence { .. } | Kind::Mapping { .. } => self,
        }
    }

    /// The JSON value, merge keys applied.
    pub(super) fn value(&self) -> Result<Value, Fault> {
        let fault = |message: String| Fault { at: self.at.clone(), message };
        match &self.kind {
            Kind::Scalar { text, quoting, block: _ } => {
                scalar::resolve(text, *quoting, self.tag.as_deref()).map_err(fault)
            }
            Kind::Sequence { items, flow: _ } => {
                Ok(Value::Array(items.iter().map(|item| item.value()).collect::<Result<_, _>>()?))
            }
            Kind::Mapping { entries, flow: _ } => mapping_value(entries).map(Value::Object),
            Kind::Alias(node) => node.value(),
        }
    }

    /// The entry of a mapping with this key, merge keys not followed.
    pub(super) fn entry(&self, key: &str) -> Option<(&Rc<Self>, &Rc<Self>)> {
        let Kind::Mapping { entries, flow: _ } = &self.kind else { return None };
        entries.iter().find(|(node, _)| node.key().as_deref() == Some(key)).map(|(key, value)| (key, value))
    }

    /// The text of this node as a mapping key.
    pub(super) fn key(&self) -> Option<String> {
        scalar::key_text(&self.value().ok()?).ok()
    }

    /// The merge key `<<`.
    pub(super) fn is_merge(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, quoting: Quoting::Plain, .. } if text == "<<" && self.tag.is_none())
    }
}

/// As Go's yaml.v2: a merge overwrites the keys written before it, and is overwritten by those after it.
fn mapping_value(entries: &[(Rc<Node>, Rc<Node>)]) -> Result<Map<String, Value>, Fault> {
    let mut map = Map::new();
    let mut explicit: HashMap<String, u32> = HashMap::with_capacity(entries.len());
    for (key, value) in entries {
        if key.is_merge() {
            merge(value, &mut map)?;
            continue;
        }
        let name = scalar::key_text(&key.value()?).map_err(|message| Fault { at: key.at.clone(), message })?;
        if let Some(line) = explicit.insert(name.clone(), key.at.line) {
            let message = format!("duplicate key `{name}`, first on line {line}");
            return Err(Fault { at: key.at.clone(), message });
        }
        map.insert(name, value.value()?);
    }
    Ok(map)
}

fn merge(value: &Node, into: &mut Map<String, Value>) -> Result<(), Fault> {
    match &value.target().kind {
        Kind::Mapping { entries, flow: _ } => into.extend(mapping_value(entries)?),
        // Earlier sources of a list win.
        Kind::Sequence { items, flow: _ } => items.iter().rev().try_for_each(|item| merge(item, into))?,
        Kind::Scalar { .. } | Kind::Alias(_) => {
            return Err(Fault {
                at: value.at.clone(),
                message: "`<<` needs a mapping or a list of them".to_owned(),
            });
        }
    }
    Ok(())
}
