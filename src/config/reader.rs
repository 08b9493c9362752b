//! Reads a YAML mapping field by field, remembering where everything was written, so that all errors are told at once.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::model::closest;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the settings file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Everything that is wrong, with line and caret where it was written.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// A YAML value with places.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Null,
    Scalar(String),
    Bool(bool),
    Number(f64),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                // Settings hold small numbers only; what a float rounds, the range checks refuse.
                Ok(Tree::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Tree::Map(fields))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

/// Where something was written; line 0 stands for the command line or nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    line: u64,
    column: u64,
}

impl<T> From<&Spanned<T>> for Place {
    fn from(spanned: &Spanned<T>) -> Self {
        Self { line: spanned.referenced.line(), column: spanned.referenced.column() }
    }
}

/// Collects errors about one text.
#[derive(Debug)]
pub(super) struct Errors<'a> {
    name: &'a str,
    text: &'a str,
    all: Vec<String>,
    /// Paths of all fields that were asked for; `[]` stands for the items of a list.
    #[cfg(test)]
    pub(super) known: std::collections::BTreeSet<String>,
}

impl<'a> Errors<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self {
            name,
            text,
            all: Vec::new(),
            #[cfg(test)]
            known: std::collections::BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, place: Place, message: &str) {
        let Place { line, column } = place;
        let source = usize::try_from(line).ok().and_then(|line| self.text.lines().nth(line.checked_sub(1)?));
        self.all.push(match source {
            None => format!("error: {message}"),
            Some(source) => {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                let before = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
                // A tab is as wide in both lines, so the caret stays under its character.
                let blank = |c| if c == '\t' { '\t' } else { ' ' };
                let caret: String = source.chars().chain(std::iter::repeat(' ')).take(before).map(blank).collect();
                let name = self.name;
                format!(
                    "error: {message}\n{gutter}--> {name}:{line}:{column}\n{gutter} |\n{number} | {source}\n{gutter} | {caret}^"
                )
            }
        });
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        if self.all.is_empty() { Ok(value) } else { Err(self.into_error()) }
    }

    pub(super) fn into_error(self) -> ConfigError {
        ConfigError::Invalid(self.all)
    }
}

/// A mapping that is being taken apart. Every field is taken by name; what remains is unknown.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    fields: Vec<(Spanned<String>, Spanned<Tree>)>,
    known: Vec<&'static str>,
    /// Where it was written; nowhere, as far as anybody asks.
    place: Place,
}

impl Fields {
    /// Parses a whole text; an empty one has no fields.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let syntax = |place: Place, message: &str| {
            let mut errors = Errors::new(name, text);
            errors.add(place, message);
            ConfigError::Invalid(errors.all)
        };
        let tree = if text.trim().is_empty() {
            Tree::Null
        } else {
            serde_saphyr::from_str::<Tree>(text).map_err(|error| {
                let place =
                    error.location().map(|at| Place { line: at.line(), column: at.column() }).unwrap_or_default();
                let message = error.without_snippet().to_string();
                // The place is said by the lines below the message.
                let message = message.split_once(": ").map_or(message.as_str(), |(place, rest)| {
                    if place.contains("line ") { rest } else { message.as_str() }
                });
                let message = message.split(" at line ").next().unwrap_or(message);
                let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
                syntax(place, message)
            })?
        };
        match tree {
            Tree::Null => {
                Ok(Self { path: String::new(), fields: Vec::new(), known: Vec::new(), place: Place::default() })
            }
            Tree::Map(fields) => {
                Ok(Self { path: String::new(), fields, known: Vec::new(), place: Place::default() })
            }
            Tree::Scalar(_) | Tree::Bool(_) | Tree::Number(_) | Tree::List(_) => {
                Err(syntax(Place { line: 1, column: 1 }, "expected a mapping such as `git:`"))
            }
        }
    }

    fn take(&mut self, field: &'static str) -> Option<Spanned<Tree>> {
        self.known.push(field);
        let index = self.fields.iter().position(|(key, _)| key.value == field)?;
        let (_, value) = self.fields.swap_remove(index);
        (!matches!(value.value, Tree::Null)).then_some(value)
    }

    /// Whether a field is there, even an empty mapping.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|(key, value)| key.value == field && !matches!(value.value, Tree::Null))
    }

    /// Where the first of these fields was written.
    pub(super) fn place_of(&self, fields: &[&str]) -> Place {
        let found = self.fields.iter().find(|(key, _)| fields.contains(&key.value.as_str()));
        found.map(|(key, _)| Place::from(key)).unwrap_or_default()
    }

    fn full(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// A nested mapping; empty when absent.
    pub(super) fn section(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Self {
        let path = self.full(field);
        let fields = match self.take(field) {
            None => Vec::new(),
            Some(Spanned { value: Tree::Map(fields), .. }) => fields,
            Some(other) => {
                errors.add(Place::from(&other), &format!("`{path}` must be a mapping"));
                Vec::new()
            }
        };
        Self { path, fields, known: Vec::new(), place: Place::default() }
    }

    /// A list of mappings; empty when absent.
    pub(super) fn sections(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Vec<Self> {
        let path = self.full(field);
        let Some(node) = self.take(field) else { return Vec::new() };
        let place = Place::from(&node);
        let Tree::List(items) = node.value else {
            errors.add(place, &format!("`{path}` must be a list"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let place = Place::from(&item);
            match item.value {
                Tree::Map(fields) => sections.push(Self { path, fields, known: Vec::new(), place }),
                _ => errors.add(place, &format!("`{path}` must be a mapping")),
            }
        }
        sections
    }

    /// A text that has to be there.
    pub(super) fn needed(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Option<String> {
        if !self.has(field) {
            errors.add(self.place, &format!("`{}` is missing", self.full(field)));
        }
        self.text(field, errors).map(|(text, _)| text)
    }

    /// A text.
    pub(super) fn text(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Option<(String, Place)> {
        let path = self.full(field);
        let node = self.take(field)?;
        let place = Place::from(&node);
        match node.value {
            Tree::Scalar(text) => Some((text, place)),
            Tree::Number(number) => Some((number.to_string(), place)),
            Tree::Bool(_) | Tree::Null | Tree::List(_) | Tree::Map(_) => {
                errors.add(place, &format!("`{path}` must be a text"));
                None
            }
        }
    }

    /// A text that parses as something.
    pub(super) fn parsed<T, E: fmt::Display>(
        &mut self,
        field: &'static str,
        errors: &mut Errors<'_>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let path = self.full(field);
        let (text, place) = self.text(field, errors)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                errors.add(place, &format!("`{path}`: {error}"));
                None
            }
        }
    }

    /// As [`Fields::parsed`], with its place.
    pub(super) fn parsed_at<T, E: fmt::Display>(
        &mut self,
        field: &'static str,
        errors: &mut Errors<'_>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<(T, Place)> {
        let place = self.fields.iter().find(|(key, _)| key.value == field).map(|(_, value)| Place::from(value));
        self.parsed(field, errors, parse).map(|value| (value, place.unwrap_or_default()))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Option<bool> {
        let path = self.full(field);
        let node = self.take(field)?;
        match node.value {
            Tree::Bool(value) => Some(value),
            _ => {
                errors.add(Place::from(&node), &format!("`{path}` must be true or false"));
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, field: &'static str, errors: &mut Errors<'_>) -> Option<Vec<String>> {
        let path = self.full(field);
        let node = self.take(field)?;
        let place = Place::from(&node);
        let Tree::List(items) = node.value else {
            errors.add(place, &format!("`{path}` must be a list"));
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            match item.value {
                Tree::Scalar(text) => texts.push(text),
                _ => errors.add(Place::from(&item), &format!("`{path}` must be a list of texts")),
            }
        }
        Some(texts)
    }

    /// Whatever has not been taken is unknown.
    pub(super) fn finish(self, errors: &mut Errors<'_>) {
        #[cfg(test)]
        for field in &self.known {
            let path = self.full(field);
            let parts = path
                .split('.')
                .map(|part| part.split_once('[').map_or(part.to_owned(), |(name, _)| format!("{name}[]")));
            errors.known.insert(parts.collect::<Vec<_>>().join("."));
        }
        for (key, _) in &self.fields {
            let close = closest(&key.value, self.known.iter().copied());
            let hint = close.map(|close| format!(", did you mean `{close}`?")).unwrap_or_default();
            errors.add(Place::from(key), &format!("unknown field `{}`{hint}", self.full(&key.value)));
        }
    }
}
