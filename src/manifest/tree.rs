//! A YAML file as a tree of nodes with exact byte ranges: what reading, carets and in-place edits share.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::budget::{Budget, Cost};
use super::chunk::{self, Chunk};
use super::lines::LineIndex;
use super::padding::Padding;
use super::quotes::{self, Blame};
use super::scalar::{self, Quoting};

/// Deepest nesting: Kubernetes objects stay below 30, and recursion must end before the stack does.
const DEPTH_MAX: usize = 100;

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

/// Readings of one file that has quoted texts without indentation. The first guess is nearly always right.
const READINGS_MAX: usize = 20;

/// The values of a text's documents, in order; `None` if it is no YAML.
pub fn values(text: &str) -> Option<Vec<Value>> {
    let documents = read(text).ok()?;
    documents.iter().map(|document| document.root.value().ok()).collect()
}

/// All documents of a file; empty ones are kept, so that numbers stay stable.
pub(super) fn read(text: &str) -> Result<Vec<Document>, Fault> {
    let mut budget = Budget::of_a_file();
    let mut documents = Vec::new();
    for chunk in chunk::chunks(text) {
        documents.extend(read_chunk(chunk, &mut budget)?);
    }
    Ok(documents)
}

fn read_chunk(chunk: Chunk<'_>, budget: &mut Budget) -> Result<Vec<Document>, Fault> {
    let before = *budget;
    let fault = match read_indented(chunk, budget) {
        Ok(documents) => return Ok(documents),
        Err(fault) => fault,
    };
    let Some(objects) = chunk::concatenated(chunk) else { return Err(fault) };
    *budget = before;
    let mut documents = Vec::new();
    for object in objects {
        documents.extend(read_indented(object, budget)?);
    }
    Ok(documents)
}

/// Reads quoted texts that are not indented, too.
fn read_indented(chunk: Chunk<'_>, budget: &mut Budget) -> Result<Vec<Document>, Fault> {
    let (text, before) = (chunk.text, *budget);
    let mut padding = Padding::default();
    let lines = OnceCell::new();
    for _ in 1..READINGS_MAX {
        *budget = before;
        let copy = padding.apply(text);
        let mut reader = Reader::new(chunk, &copy, &padding, budget);
        let read = reader.documents();
        let Reader { quoted, outdented, read: until, .. } = reader;
        // Behind another error a guess proves nothing, and may be what is wrong.
        if padding.keep_inside(&quoted, if outdented.is_some() { until } else { text.len() }) {
            continue;
        }
        match outdented {
            Some(open) if padding.indent(text, lines.get_or_init(|| LineIndex::new(text)), open) => {}
            Some(_) | None => return read,
        }
    }
    *budget = before;
    Reader::new(chunk, text, &Padding::default(), budget).documents()
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// What is read. Places within it are counted from its start, places of nodes from the file's.
    chunk: Chunk<'a>,
    /// How what the parser reads differs from it.
    padding: &'a Padding,
    budget: &'a mut Budget,
    anchors: HashMap<usize, (Rc<Node>, Cost)>,
    /// Byte of the chunk behind the last event.
    read: usize,
    /// Quoted texts of the chunk.
    quoted: Vec<Range<usize>>,
    /// Where the quote opens whose text the parser wants indented, if that is what stopped it.
    outdented: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(chunk: Chunk<'a>, copy: &'a str, padding: &'a Padding, budget: &'a mut Budget) -> Self {
        // Comments would only be dropped here: edits copy bytes, they do not need to know which of them are comments.
        let parser = Parser::new_from_str_with_options(copy, granit_parser::options! { emit_comments: false });
        let (anchors, quoted) = (HashMap::new(), Vec::new());
        Self { parser, chunk, padding, budget, anchors, read: 0, quoted, outdented: None }
    }

    fn documents(&mut self) -> Result<Vec<Document>, Fault> {
        let mut documents = Vec::new();
        while let Some((event, _)) = self.next()? {
            if let Event::DocumentStart(..) = event {
                self.anchors.clear();
                let Some((event, span)) = self.next()? else { break };
                documents.push(Document { root: self.node(event, span, 0)? });
            }
        }
        Ok(documents)
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        match self.parser.next_event().transpose() {
            Ok(found) => {
                if let Some((_, span)) = &found {
                    self.read = self.read.max(self.local(span).end);
                }
                Ok(found)
            }
            Err(error) => Err(self.fault(&error)),
        }
    }

    fn fault(&mut self, error: &ScanError) -> Fault {
        let mark = error.marker();
        let start = self.padding.byte(mark.byte_offset().unwrap_or(0));
        let text = self.chunk.text;
        if *error.kind() == ErrorKind::InvalidQuotedScalarIndent {
            let quoted = quotes::last_quoted(text, self.read, start);
            self.outdented = quoted.filter(|quoted| quoted.close.is_none()).map(|quoted| quoted.open);
        }
        let line = mark.line() + self.chunk.lines;
        if let Some(Blame { at, message }) = quotes::blame(text, self.read, start, line, error.kind()) {
            return Fault { at: self.place(at), message };
        }
        let at = self.at(start..start, mark.line(), self.padding.column(mark.line(), mark.col()));
        Fault { at, message: error.info() }
    }

    /// Bytes of the chunk.
    fn local(&self, span: &Span) -> Range<usize> {
        let Range { start, end } = span.byte_range().unwrap_or_default();
        self.padding.byte(start)..self.padding.byte(end)
    }

    fn position(&self, span: &Span) -> Position {
        let (line, column) = (span.start.line(), span.start.col());
        self.at(self.local(span), line, self.padding.column(line, column))
    }

    /// A place of the chunk, with its line from 1 and its column from 0, as one of the file.
    fn at(&self, range: Range<usize>, line: usize, column: usize) -> Position {
        let Chunk { at, lines, columns, .. } = self.chunk;
        let before = if line <= 1 { columns } else { 0 };
        Position {
            range: range.start + at..range.end + at,
            line: count(line + lines),
            column: count(column + before + 1),
        }
    }

    /// A byte of the chunk as a place of the file.
    fn place(&self, byte: usize) -> Position {
        let before = self.chunk.text.get(..byte).unwrap_or("");
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count();
        self.at(byte..byte + 1, line, column)
    }

    /// Takes the cost of something at a place.
    fn take(&mut self, cost: Cost, at: &Position) -> Result<(), Fault> {
        self.budget.take(cost).map_err(|exhausted| Fault { at: at.clone(), message: exhausted.to_string() })
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Rc<Node>, Fault> {
        let mut at = self.position(&span);
        if depth > DEPTH_MAX {
            return Err(Fault { at, message: format!("nested more than {DEPTH_MAX} levels deep") });
        }
        let before = *self.budget;
        let bytes = if let Event::Scalar(text, ..) = &event { text.len() } else { 0 };
        self.take(Cost { values: 1, bytes }, &at)?;
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
                    self.quoted.push(self.local(&span));
                }
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
                let Some((node, cost)) = self.anchors.get(&id) else {
                    return Err(Fault { at, message: "an anchor must not contain itself".to_owned() });
                };
                let (node, cost) = (Rc::clone(node), *cost);
                self.take(cost, &at)?;
                (Kind::Alias(node), 0, None)
            }
            _ => return Err(Fault { at, message: "expected a value".to_owned() }),
        };
        let node = Rc::new(Node { at, anchored: anchor > 0, tag: tag.as_deref().map(tag_text), kind });
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), self.budget.since(&before)));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Rc<Node>>, usize), Fault> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok((items, self.position(&span).range.end));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Ok((items, self.chunk.at + self.chunk.text.len()))
    }

    #[expect(clippy::type_complexity, reason = "the pairs are read once, right above")]
    fn mapping(&mut self, depth: usize) -> Result<(Vec<(Rc<Node>, Rc<Node>)>, usize), Fault> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                return Ok((entries, self.position(&span).range.end));
            }
            let key = self.node(event, span, depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            let mut value = self.node(event, span, depth + 1)?;
            if let (true, Some(node)) = (value.at.range.is_empty(), Rc::get_mut(&mut value)) {
                // An absent value sits right behind `key:`; the parser reports where the next token starts, and no further
                // than there is looked.
                let (from, until) = (key.at.range.end, node.at.range.start + 1);
                let within = |byte: usize| byte.saturating_sub(self.chunk.at).min(self.chunk.text.len());
                let gap = self.chunk.text.get(within(from)..within(until).max(within(from)));
                let end = from + gap.and_then(|gap| gap.find(':')).map_or(0, |offset| offset + 1);
                node.at = Position { range: end..end, ..key.at.clone() };
            }
            entries.push((key, value));
        }
        Ok((entries, self.chunk.at + self.chunk.text.len()))
    }
}

fn tag_text(tag: &Tag) -> String {
    tag.suffix_in_namespace("tag:yaml.org,2002:").map_or_else(|| tag.original(), |suffix| suffix.into_owned())
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

    /// What a plain key begins with that people take for indentation: editors and chats make such blanks of spaces.
    fn looks_indented_by(&self) -> Option<char> {
        let Kind::Scalar { text, quoting: Quoting::Plain, .. } = &self.kind else { return None };
        let invisible =
            |c: &char| !c.is_ascii() && (c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}'));
        text.chars().next().filter(invisible)
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
        let fault = |message: String| Fault { at: key.at.clone(), message };
        let name = scalar::key_text(&key.value()?).map_err(fault)?;
        if let Some(blank) = key.looks_indented_by() {
            return Err(fault(format!(
                "the line begins with U+{:04X}, which looks like a blank and is none: indent it with spaces",
                u32::from(blank)
            )));
        }
        if let Some(line) = explicit.insert(name.clone(), key.at.line) {
            return Err(fault(format!("duplicate key `{name}`, first on line {line}")));
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
