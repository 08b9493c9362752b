//! Which bytes to replace by which.

use std::ops::Range;
use std::rc::Rc;

use super::super::scalar::Quoting;
use super::super::tree::{Kind, Node};
use super::{Place, is_flow};

/// Replace these bytes by this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// How far a plan goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Down to scalars, entries and items.
    Smallest,
    /// The node as one piece.
    Whole,
}

/// Plans the edits that turn a node of one text into a node of another.
#[derive(Clone, Copy)]
pub(super) struct Planner<'a> {
    pub(super) tip: &'a str,
    pub(super) promoted: &'a str,
    pub(super) style: Style,
    /// An alias stays: the edit of its anchor may give the value. Whoever checks the result finds out.
    pub(super) keep_aliases: bool,
    /// Block scalars with the blank lines at their end.
    pub(super) exact: bool,
    /// Values are written as JSON: the file is JSON, or nothing else fits.
    pub(super) json: bool,
}

type Plan = Result<Vec<Edit>, String>;
type Entry = (Rc<Node>, Rc<Node>);

impl Planner<'_> {
    pub(super) fn plan(&self, tip: &Place, promoted: &Place) -> Plan {
        match self.style {
            Style::Smallest => self.node(tip.node(), promoted.node(), tip.in_flow),
            Style::Whole => self.replace(tip.node(), promoted.node(), tip.in_flow),
        }
    }

    fn node(&self, tip: &Node, promoted: &Node, in_flow: bool) -> Plan {
        if same(tip, promoted) || (self.keep_aliases && matches!(tip.kind, Kind::Alias(_))) {
            return Ok(Vec::new());
        }
        let in_flow_below = in_flow || is_flow(tip);
        match (&tip.kind, &promoted.kind) {
            (Kind::Mapping { entries: old, flow }, Kind::Mapping { entries: new, flow: _ })
                if !has_merge(old) && !has_merge(new) && !new.is_empty() =>
            {
                let plan = self.entries(old, new, *flow, in_flow_below);
                plan.or_else(|_| self.replace(tip, promoted, in_flow))
            }
            (Kind::Sequence { items: old, flow }, Kind::Sequence { items: new, flow: _ }) if !new.is_empty() => {
                let plan = self.items(old, new, *flow, in_flow_below);
                plan.or_else(|_| self.replace(tip, promoted, in_flow))
            }
            _ => self.replace(tip, promoted, in_flow),
        }
    }

    fn entries(&self, old: &[Entry], new: &[Entry], flow: bool, in_flow: bool) -> Plan {
        let find = |list: &'_ [Entry], key: &Node| list.iter().position(|(other, _)| other.key() == key.key());
        let mut edits = Vec::new();
        for (key, value) in old {
            match find(new, key).and_then(|index| new.get(index)) {
                Some((_, wanted)) if !in_flow && wanted.at.range.is_empty() && is_block(value) => {
                    // `key:` and nothing behind it: what stood there goes with the comments in between.
                    let end = self.trimmed(value.at.range.clone()).end;
                    edits.push(Edit { range: key.at.range.end..end, text: ":".to_owned() });
                }
                Some((_, wanted)) => edits.extend(self.node(value, wanted, in_flow)?),
                None if flow => return Err("an entry of a flow mapping goes away".to_owned()),
                None => edits.push(self.remove_lines(key.at.range.start, value.at.range.end)?),
            }
        }
        let mut after: Option<&Entry> = None;
        for (key, value) in new {
            match find(old, key).and_then(|index| old.get(index)) {
                Some(entry) => after = Some(entry),
                None if flow => return Err("an entry of a flow mapping is new".to_owned()),
                None => {
                    let anchor = after.or(old.first()).ok_or("nothing to insert beside")?;
                    let source = key.at.range.start..self.end_of_line(self.promoted, value.at.range.end);
                    let before = after.is_none();
                    edits.push(self.insert(source, &anchor.0, &anchor.1, before)?);
                }
            }
        }
        merge_inserts(edits)
    }

    /// Items are matched by their `name` where they have one, else by place.
    fn items(&self, old: &[Rc<Node>], new: &[Rc<Node>], flow: bool, in_flow: bool) -> Plan {
        let names = |list: &[Rc<Node>]| list.iter().map(|item| name_of(item)).collect::<Option<Vec<_>>>();
        let pairwise = match (names(old), names(new)) {
            (Some(old_names), Some(new_names)) => old_names == new_names,
            _ => old.len() == new.len(),
        };
        if pairwise {
            let plans = old.iter().zip(new).map(|(old, new)| self.node(old, new, in_flow));
            return plans.collect::<Result<Vec<_>, _>>().map(|plans| plans.into_iter().flatten().collect());
        }
        let (Some(old_names), Some(new_names), false) = (names(old), names(new), flow) else {
            return Err("the list has other items".to_owned());
        };
        let common = |from: &[String], other: &[String]| {
            from.iter().filter(|name| other.contains(name)).cloned().collect::<Vec<_>>()
        };
        if common(&old_names, &new_names) != common(&new_names, &old_names)
            || common(&old_names, &new_names).is_empty()
        {
            return Err("the list's items are in another order".to_owned());
        }
        let mut edits = Vec::new();
        for (item, name) in old.iter().zip(&old_names) {
            match new_names.iter().position(|other| other == name).and_then(|index| new.get(index)) {
                Some(wanted) => edits.extend(self.node(item, wanted, in_flow)?),
                None => {
                    let dash = dash_before(self.tip, item.at.range.start)?;
                    edits.push(self.remove_lines(dash, item.at.range.end)?);
                }
            }
        }
        let mut after: Option<&Rc<Node>> = None;
        for (item, name) in new.iter().zip(&new_names) {
            match old_names.iter().position(|other| other == name).and_then(|index| old.get(index)) {
                Some(kept) => after = Some(kept),
                None => {
                    let dash = dash_before(self.promoted, item.at.range.start)?;
                    let source = dash..self.end_of_line(self.promoted, item.at.range.end);
                    let anchor = after.or(old.first()).ok_or("nothing to insert beside")?;
                    edits.push(self.insert_at(
                        source,
                        dash_before(self.tip, anchor.at.range.start)?,
                        anchor,
                        after.is_none(),
                    )?);
                }
            }
        }
        merge_inserts(edits)
    }

    /// The whole node by the promoted node's bytes, or by JSON where its block form cannot stand.
    fn replace(&self, tip: &Node, promoted: &Node, in_flow: bool) -> Plan {
        let range = tip.at.range.clone();
        let source = promoted.at.range.clone();
        let bytes = self.promoted.get(source.clone()).ok_or("the promoted text moved")?;
        let block = is_block(promoted);
        if range.is_empty() || bytes.is_empty() {
            return self.replace_empty(tip, promoted);
        }
        let foreign_to_flow = in_flow && !(is_quoted(promoted) || is_flow(promoted) || is_plain_word(bytes));
        if self.json || promoted.tag.is_some() || contains_alias(promoted) || (block && in_flow) || foreign_to_flow
        {
            let value = promoted.value().map_err(|fault| fault.message)?;
            return Ok(vec![Edit { range, text: value.to_string() }]);
        }
        if !bytes.contains('\n') {
            return Ok(vec![Edit { range: self.trimmed(range), text: bytes.to_owned() }]);
        }
        if let Kind::Scalar { block: true, .. } = &promoted.kind {
            return self.replace_block_scalar(tip, promoted);
        }
        let text = self.reindent(source, column(self.tip, range.start)?)?;
        let range = self.trimmed(range);
        Ok(vec![Edit { range, text }])
    }

    fn replace_empty(&self, tip: &Node, promoted: &Node) -> Plan {
        let value = promoted.value().map_err(|fault| fault.message)?;
        let range = self.trimmed(tip.at.range.clone());
        let space = if range.is_empty() { " " } else { "" };
        Ok(vec![Edit { range, text: format!("{space}{value}") }])
    }

    /// A block scalar's lines hang below its key: they are moved by the difference of the two keys' columns.
    fn replace_block_scalar(&self, tip: &Node, promoted: &Node) -> Plan {
        let source = promoted.at.range.clone();
        let (from, to) =
            (indent_of_line(self.promoted, source.start), indent_of_line(self.tip, tip.at.range.start));
        if self.exact {
            // The line break at the end is part of both, or of neither.
            let mut text = self.shift(source.clone(), from, to)?;
            let breaks =
                |text: &str, range: &Range<usize>| text.get(range.clone()).is_some_and(|it| it.ends_with('\n'));
            let tip_range = tip.at.range.clone();
            if breaks(self.promoted, &source) && (breaks(self.tip, &tip_range) || tip_range.end == self.tip.len())
            {
                text.push_str(self.newline());
            }
            return Ok(vec![Edit { range: tip_range, text }]);
        }
        let end = self.trim_end(self.promoted, source.clone());
        let text = self.shift(source.start..end, from, to)?;
        Ok(vec![Edit { range: self.trimmed(tip.at.range.clone()), text }])
    }

    /// Takes out the lines from `start` (which must be the first thing on its line) to the end of the line of `end`.
    fn remove_lines(&self, start: usize, end: usize) -> Result<Edit, String> {
        let line = line_start(self.tip, start);
        if !self.tip.get(line..start).unwrap_or("-").bytes().all(|byte| byte == b' ') {
            return Err("what goes away shares its line".to_owned());
        }
        // The comments right above say something about what goes.
        let line = above_comments(self.tip, line, start - line);
        let end = self.end_of_line(self.tip, end);
        let newline = self
            .tip
            .get(end..)
            .map_or(0, |rest| if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) });
        Ok(Edit { range: line..end + newline, text: String::new() })
    }

    fn insert(&self, source: Range<usize>, key: &Node, value: &Node, before: bool) -> Result<Edit, String> {
        self.insert_at(source, key.at.range.start, value, before)
    }

    /// Copies lines of the promoted text beside what starts at `start` and ends with `last`.
    fn insert_at(&self, source: Range<usize>, start: usize, last: &Node, before: bool) -> Result<Edit, String> {
        let indent = column(self.tip, start)?;
        let newline = self.newline();
        let comments: String = self
            .comments_above(source.start)
            .into_iter()
            .map(|comment| format!("{comment}{newline}{}", " ".repeat(indent)))
            .collect();
        let text = format!("{comments}{}", self.reindent(source, indent)?);
        if before {
            let line = line_start(self.tip, start);
            if !self.tip.get(line..start).unwrap_or("-").bytes().all(|byte| byte == b' ') {
                return Err("nothing can be put before the first entry of an item".to_owned());
            }
            let line = above_comments(self.tip, line, indent);
            let text = format!("{}{text}{newline}", " ".repeat(indent));
            return Ok(Edit { range: line..line, text });
        }
        let at = self.end_of_line(self.tip, last.at.range.end);
        Ok(Edit { range: at..at, text: format!("{newline}{}{text}", " ".repeat(indent)) })
    }

    /// The comments right above what starts there in the promoted text, without their indentation. What shares its line with
    /// something else has none.
    fn comments_above(&self, start: usize) -> Vec<&str> {
        let line = line_start(self.promoted, start);
        if !self.promoted.get(line..start).unwrap_or("-").bytes().all(|byte| byte == b' ') {
            return Vec::new();
        }
        let first = above_comments(self.promoted, line, start - line);
        self.promoted.get(first..line).unwrap_or("").lines().map(str::trim).collect()
    }

    /// Promoted bytes whose first line starts at column `to` instead of where it did.
    fn reindent(&self, source: Range<usize>, to: usize) -> Result<String, String> {
        let from = column(self.promoted, source.start)?;
        let end = self.trim_end(self.promoted, source.clone());
        self.shift(source.start..end, from, to)
    }

    fn shift(&self, source: Range<usize>, from: usize, to: usize) -> Result<String, String> {
        let bytes = self.promoted.get(source).ok_or("the promoted text moved")?;
        let mut lines = Vec::new();
        for (index, line) in bytes.lines().enumerate() {
            let blanks = line.len() - line.trim_start_matches(' ').len();
            lines.push(match index {
                0 => line.to_owned(),
                // Blanks beyond the indentation are content of a block scalar: they are moved like everything else.
                _ if line.is_empty() || (line.trim().is_empty() && blanks < from.saturating_sub(to)) => {
                    String::new()
                }
                _ if to >= from => format!("{}{line}", " ".repeat(to - from)),
                _ if blanks >= from - to => line.get(from - to..).unwrap_or("").to_owned(),
                _ if line.trim_start().starts_with('#') => line.trim_start().to_owned(),
                _ => return Err("a line is less indented than its block".to_owned()),
            });
        }
        Ok(lines.join(self.newline()))
    }

    fn newline(&self) -> &'static str {
        if self.tip.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// A tip range without the blank lines that a block may swallow at its end.
    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        range.start..self.trim_end(self.tip, range.clone())
    }

    fn trim_end(&self, text: &str, range: Range<usize>) -> usize {
        text.get(range.clone()).map_or(range.end, |slice| range.start + slice.trim_end().len())
    }

    /// The end of the line (before its line break) on which content that ends at `end` is.
    fn end_of_line(&self, text: &str, end: usize) -> usize {
        // A block scalar ends behind its last line break: step back onto that line.
        let end = text.get(..end).map_or(end, |head| head.trim_end().len());
        let rest = text.get(end..).unwrap_or("");
        let length = rest.find('\n').unwrap_or(rest.len());
        end + rest.get(..length).map_or(0, |line| line.trim_end_matches('\r').len())
    }
}

/// Equal values that no alias or tag makes special.
fn same(tip: &Node, promoted: &Node) -> bool {
    match (tip.value(), promoted.value()) {
        (Ok(tip), Ok(promoted)) => tip == promoted,
        _ => false,
    }
}

fn has_merge(entries: &[Entry]) -> bool {
    entries.iter().any(|(key, _)| key.is_merge())
}

fn contains_alias(node: &Node) -> bool {
    match &node.kind {
        Kind::Alias(_) => true,
        Kind::Scalar { .. } => false,
        Kind::Sequence { items, flow: _ } => items.iter().any(|item| contains_alias(item)),
        Kind::Mapping { entries, flow: _ } => {
            entries.iter().any(|(key, value)| key.is_merge() || contains_alias(value) || value.anchored)
        }
    }
}

fn is_block(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar { block, .. } => *block,
        Kind::Sequence { flow, .. } | Kind::Mapping { flow, .. } => !flow,
        Kind::Alias(_) => false,
    }
}

fn name_of(item: &Node) -> Option<String> {
    item.entry("name").and_then(|(_, value)| value.key())
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|head| head.rfind('\n')).map_or(0, |newline| newline + 1)
}

/// The start of the comment lines right above the line that starts at `line`, as far as they are indented like it: they are
/// about that line.
fn above_comments(text: &str, line: usize, indent: usize) -> usize {
    if line == 0 {
        return line;
    }
    let above = line_start(text, line - 1);
    let comment = text.get(above..line).is_some_and(|above| {
        let blanks = above.len() - above.trim_start_matches(' ').len();
        blanks == indent && above.trim_start().starts_with('#')
    });
    if comment { above_comments(text, above, indent) } else { line }
}

/// A scalar in quotes.
fn is_quoted(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { quoting: Quoting::Quoted, block: false, .. })
}

/// A plain scalar that means the same inside `{}` and `[]`.
fn is_plain_word(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    !text.is_empty() && text.bytes().all(inside) && !text.ends_with(':') && !text.starts_with(['@', '-', ':'])
}

/// The column in bytes, counting what stands before on the line (`- ` included).
fn column(text: &str, at: usize) -> Result<usize, String> {
    let line = line_start(text, at);
    match text.get(line..at) {
        Some(head) if head.is_ascii() => Ok(head.len()),
        _ => Err("text that is not ASCII stands before it on its line".to_owned()),
    }
}

/// Where the content of the line begins, past `- ` markers: what a block scalar's indentation counts from.
fn indent_of_line(text: &str, at: usize) -> usize {
    let line = text.get(line_start(text, at)..).unwrap_or("");
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// The `-` before an item.
fn dash_before(text: &str, item: usize) -> Result<usize, String> {
    let head = text.get(..item).unwrap_or("").trim_end();
    if head.ends_with('-') {
        Ok(head.len() - 1)
    } else {
        Err("an item carries an anchor, a tag or a comment".to_owned())
    }
}

/// Insertions at one place become one edit, in order.
fn merge_inserts(edits: Vec<Edit>) -> Plan {
    let mut merged: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        let earlier = merged.iter_mut().find(|other| edit.range.is_empty() && other.range == edit.range);
        match earlier {
            Some(other) => other.text.push_str(&edit.text),
            None => merged.push(edit),
        }
    }
    Ok(merged)
}
