//! Values of a template.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A map with text keys, ordered as Go prints it.
pub type Map = BTreeMap<String, Value>;

/// A text, and whether it comes from somebody else than the template's author.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The text.
    pub text: Rc<str>,
    /// Whether it is, or was made of, somebody else's text.
    pub foreign: bool,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `nil`, and the dot of a template without data.
    Nil,
    /// A key that is not there, with its name: false to `if`, an error where it is used as a text.
    Missing(String),
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(Text),
    /// A list.
    List(Rc<Vec<Value>>),
    /// A map; `texts` when all its values are texts, so that a missing one reads as the empty text.
    Map {
        /// What is in it.
        entries: Rc<Map>,
        /// Whether its zero value is the empty text.
        texts: bool,
    },
}

impl Value {
    /// A text of the template's own.
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text { text: text.into(), foreign: false })
    }

    /// A text that may be of somebody else.
    pub fn text_of(text: impl Into<Rc<str>>, foreign: bool) -> Self {
        Self::Text(Text { text: text.into(), foreign })
    }

    /// A map of texts, as Go's `map[string]string`.
    pub fn texts(entries: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self::Map { entries: Rc::new(entries.into_iter().collect()), texts: true }
    }

    pub(super) fn list(values: Vec<Value>) -> Self {
        Self::List(Rc::new(values))
    }

    /// Go's `truth`.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil | Self::Missing(_) => false,
            Self::Bool(truth) => *truth,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.text.is_empty(),
            Self::List(values) => !values.is_empty(),
            Self::Map { entries, .. } => !entries.is_empty(),
        }
    }

    /// Go's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil | Self::Missing(_) => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map { texts: true, .. } => "map[string]string",
            Self::Map { texts: false, .. } => "map[string]interface {}",
        }
    }

    pub(super) fn is_foreign(&self) -> bool {
        match self {
            Self::Text(text) => text.foreign,
            Self::List(values) => values.iter().any(Self::is_foreign),
            Self::Map { entries, .. } => entries.values().any(Self::is_foreign),
            Self::Nil | Self::Missing(_) | Self::Bool(_) | Self::Int(_) | Self::Float(_) => false,
        }
    }
}
