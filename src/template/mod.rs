//! Go's `text/template`, as far as query templates use it: actions, pipelines, variables, `if`, `with`, `range`, comments,
//! trim markers, the comparison and print functions, and the string functions that sprig made common.
//!
//! A template is a program of somebody else, so it is rendered within a [`Budget`] of steps and bytes, and no text of it is
//! ever read by another language's parser. What is not there (`define`, `template`, `block`, complex numbers, `call`) is
//! refused with its place. One thing is stricter than in Go: a missing key is an error where it would be printed as
//! `<no value>`, which no query means.

mod eval;
mod functions;
mod lex;
mod parse;
mod printf;
mod strings;
mod value;

use std::collections::BTreeMap;

pub use value::{Map, Text, Value};

/// Longest template, in bytes.
const TEMPLATE_MAX: usize = 64 * 1024;

/// What rendering may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Longest text, in bytes: of the result, and of every text and list on the way to it.
    pub bytes: usize,
    /// Most steps; one for every node, and one more for every 64 bytes that are handled.
    pub steps: u64,
}

/// Where and why a template cannot be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct TemplateError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl TemplateError {
    fn at(text: &str, position: usize, message: impl Into<String>) -> Self {
        let before = text.get(..position).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column, message: message.into() }
    }
}

/// Decides how a value that is not the template author's own is written after the text so far.
pub type Guard<'a> = &'a dyn Fn(&str, &str) -> Result<String, String>;

/// What a template may use and cost.
pub struct Scope<'a> {
    /// Functions without arguments, beside the built-in ones.
    pub names: BTreeMap<&'a str, Value>,
    /// What rendering may cost.
    pub budget: Budget,
    /// Sees every foreign text before it is written.
    pub guard: Option<Guard<'a>>,
}

/// Renders a template.
///
/// # Errors
/// When it cannot be read, uses what is not there, or costs too much.
pub fn render(template: &str, scope: &Scope<'_>) -> Result<String, TemplateError> {
    if template.len() > TEMPLATE_MAX {
        let message = format!("the template is {} bytes long, more than {TEMPLATE_MAX}", template.len());
        return Err(TemplateError { line: 1, column: 1, message });
    }
    let nodes = lex::lex(template)
        .and_then(|tokens| parse::parse(&tokens, &scope.names))
        .map_err(|fault| TemplateError::at(template, fault.position, fault.message))?;
    eval::run(&nodes, scope).map_err(|fault| TemplateError::at(template, fault.position, fault.message))
}

/// An error at a byte of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    position: usize,
    message: String,
}

impl Fault {
    fn new(position: usize, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

#[cfg(test)]
mod tests;
