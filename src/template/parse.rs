//! Tokens become a tree.

use std::collections::BTreeMap;

use super::lex::{Kind, Token};
use super::value::Value;
use super::{Fault, functions};

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 50;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Written as it is.
    Text(String, usize),
    /// `{{ pipeline }}`.
    Action(Pipe),
    /// `{{ if }}`, also as `{{ else if }}`.
    If(Branch),
    /// `{{ with }}`.
    With(Branch),
    /// `{{ range }}`.
    Range(Branch),
    /// `{{ break }}`.
    Break,
    /// `{{ continue }}`.
    Continue,
}

/// What is done when the pipe is true, and when it is not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) other: Vec<Node>,
}

/// Commands joined by `|`, the last one's value perhaps named.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    pub(super) position: usize,
    pub(super) variables: Vec<String>,
    /// `=`, not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand and the arguments that follow it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) position: usize,
    pub(super) words: Vec<Operand>,
}

/// One word of a command, with the fields that are taken of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) position: usize,
    pub(super) term: Term,
    pub(super) fields: Vec<String>,
}

/// What a word names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Literal(Value),
    Nil,
    Dot,
    Variable(String),
    Function(String),
    Pipe(Box<Pipe>),
}

/// What ended a list of nodes.
enum End {
    Keyword,
    Else,
    Text,
}

/// Reads a template; `names` are the functions beside the built-in ones.
pub(super) fn parse(tokens: &[Token], names: &BTreeMap<&str, Value>) -> Result<Vec<Node>, Fault> {
    let variables = vec![String::new()];
    let end = tokens.last().map_or(0, |token| token.position);
    let mut parser = Parser { tokens, at: 0, end, names, variables, loops: 0, depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Text => Ok(nodes),
        End::Keyword => Err(parser.fault("unexpected {{end}}")),
        End::Else => Err(parser.fault("unexpected {{else}}")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    end: usize,
    names: &'a BTreeMap<&'a str, Value>,
    /// Variables in scope; `$` has an empty name.
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |token| token.position)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.position(), message)
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(&Kind::Space) {
            self.at += 1;
        }
    }

    /// The next token that is no blank.
    fn next_kind(&mut self) -> Option<&'a Kind> {
        self.skip_blanks();
        let kind = self.peek();
        self.at += usize::from(kind.is_some());
        kind
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fault(format!("nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End), Fault> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            if let Kind::Text(text) = &token.kind {
                nodes.push(Node::Text(text.clone(), token.position));
                self.at += 1;
                continue;
            }
            let open = token.position;
            self.at += 1;
            self.skip_blanks();
            match self.peek() {
                Some(Kind::Word(word)) if is_keyword(word) => {
                    self.at += 1;
                    match word.as_str() {
                        "end" => {
                            self.close("end")?;
                            return Ok((nodes, End::Keyword));
                        }
                        // What follows is read by whoever has the branch.
                        "else" => return Ok((nodes, End::Else)),
                        keyword => nodes.push(self.keyword(keyword, open)?),
                    }
                }
                Some(_) | None => {
                    let pipe = self.pipe("command", &Kind::Close)?;
                    nodes.push(Node::Action(pipe));
                }
            }
        }
        Ok((nodes, End::Text))
    }

    fn keyword(&mut self, keyword: &str, open: usize) -> Result<Node, Fault> {
        match keyword {
            "if" => self.branch("if", open).map(Node::If),
            "with" => self.branch("with", open).map(Node::With),
            "range" => {
                self.loops += 1;
                let branch = self.branch("range", open);
                self.loops -= 1;
                branch.map(Node::Range)
            }
            "break" | "continue" if self.loops == 0 => {
                Err(Fault::new(open, format!("{{{{{keyword}}}}} outside {{{{range}}}}")))
            }
            "break" => self.close(keyword).map(|()| Node::Break),
            "continue" => self.close(keyword).map(|()| Node::Continue),
            other => Err(Fault::new(open, format!("{{{{{other}}}}} is not supported in queries"))),
        }
    }

    fn close(&mut self, after: &str) -> Result<(), Fault> {
        match self.next_kind() {
            Some(Kind::Close) => Ok(()),
            Some(_) | None => {
                self.at = self.at.saturating_sub(1);
                Err(self.fault(format!("unexpected words after {after}")))
            }
        }
    }

    fn branch(&mut self, keyword: &str, open: usize) -> Result<Branch, Fault> {
        let scope = self.variables.len();
        let branch = self.nested(|parser| {
            let pipe = parser.pipe(keyword, &Kind::Close)?;
            if pipe.variables.len() > 1 && keyword != "range" {
                return Err(Fault::new(pipe.position, "too many declarations"));
            }
            let (then, end) = parser.nodes()?;
            let other = match end {
                End::Keyword => Vec::new(),
                End::Text => return Err(Fault::new(open, format!("{{{{{keyword}}}}} has no {{{{end}}}}"))),
                End::Else => parser.otherwise(keyword, open)?,
            };
            Ok(Branch { pipe, then, other })
        })?;
        self.variables.truncate(scope);
        Ok(branch)
    }

    /// Behind `{{else`: either its nodes, or another branch that shares the end.
    fn otherwise(&mut self, keyword: &str, open: usize) -> Result<Vec<Node>, Fault> {
        self.skip_blanks();
        match self.peek() {
            Some(Kind::Word(word)) if word == keyword && (keyword == "if" || keyword == "with") => {
                self.at += 1;
                let branch = self.branch(keyword, open)?;
                Ok(vec![if keyword == "if" { Node::If(branch) } else { Node::With(branch) }])
            }
            Some(_) | None => {
                self.close("else")?;
                match self.nodes()? {
                    (other, End::Keyword) => Ok(other),
                    (_, End::Else) => Err(self.fault("expected end; found {{else}}")),
                    (_, End::Text) => Err(Fault::new(open, format!("{{{{{keyword}}}}} has no {{{{end}}}}"))),
                }
            }
        }
    }

    /// Up to and with `end`, which is `}}` or `)`.
    fn pipe(&mut self, context: &str, end: &Kind) -> Result<Pipe, Fault> {
        self.skip_blanks();
        let position = self.position();
        let (variables, assigns) = self.declaration(context == "range")?;
        let mut commands = Vec::new();
        loop {
            commands.push(self.command()?);
            match self.next_kind() {
                Some(Kind::Sign('|')) => {
                    self.skip_blanks();
                    // As Go: nothing behind a `|` is nothing.
                    if self.peek() == Some(end) {
                        self.at += 1;
                        break;
                    }
                }
                Some(kind) if kind == end => break,
                Some(kind) => {
                    self.at -= 1;
                    return Err(self.fault(format!("unexpected {} in {context}", shown(kind))));
                }
                None => return Err(self.fault(format!("unclosed {context}"))),
            }
        }
        let later = commands.iter().skip(1).filter_map(|command| command.words.first());
        if let Some(operand) =
            later.into_iter().find(|it| matches!(it.term, Term::Literal(_) | Term::Nil | Term::Dot))
        {
            return Err(Fault::new(operand.position, "non executable command in a pipeline"));
        }
        Ok(Pipe { position, variables, assigns, commands })
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declaration(&mut self, is_range: bool) -> Result<(Vec<String>, bool), Fault> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek() {
            self.at += 1;
            names.push(name.clone());
            match self.next_kind() {
                Some(Kind::Declare) => {
                    self.variables.extend(names.iter().cloned());
                    return Ok((names, false));
                }
                Some(Kind::Assign) => {
                    for name in &names {
                        self.known(name)?;
                    }
                    return Ok((names, true));
                }
                Some(Kind::Sign(',')) if is_range && names.len() < 2 => self.skip_blanks(),
                Some(_) | None => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn known(&self, name: &str) -> Result<(), Fault> {
        match self.variables.iter().any(|known| known == name) {
            true => Ok(()),
            false => Err(self.fault(format!("undefined variable \"${name}\""))),
        }
    }

    fn command(&mut self) -> Result<Command, Fault> {
        self.skip_blanks();
        let position = self.position();
        let mut words = Vec::new();
        loop {
            match self.peek() {
                Some(Kind::Close | Kind::Sign('|' | ')')) | None => break,
                Some(Kind::Space) => self.at += 1,
                Some(_) => {
                    words.push(self.operand()?);
                    match self.peek() {
                        Some(Kind::Close | Kind::Space | Kind::Sign('|' | ')')) | None => {}
                        Some(kind) => return Err(self.fault(format!("unexpected {} in operand", shown(kind)))),
                    }
                }
            }
        }
        if words.is_empty() {
            return Err(self.fault("missing value for command"));
        }
        Ok(Command { position, words })
    }

    fn operand(&mut self) -> Result<Operand, Fault> {
        let position = self.position();
        let mut fields = Vec::new();
        let kind = self.peek();
        self.at += 1;
        let term = match kind {
            Some(Kind::Word(word)) => self.word(word, position)?,
            Some(Kind::Dot) => Term::Dot,
            Some(Kind::Field(name)) => {
                fields.push(name.clone());
                Term::Dot
            }
            Some(Kind::Variable(name)) => {
                self.at -= 1;
                self.known(name)?;
                self.at += 1;
                Term::Variable(name.clone())
            }
            Some(Kind::Quoted(text)) => Term::Literal(Value::text(text.as_str())),
            Some(Kind::Int(number)) => Term::Literal(Value::Int(*number)),
            Some(Kind::Float(number)) => Term::Literal(Value::Float(*number)),
            Some(Kind::Sign('(')) => {
                let pipe = self.nested(|parser| parser.pipe("parenthesized pipeline", &Kind::Sign(')')))?;
                Term::Pipe(Box::new(pipe))
            }
            Some(other) => return Err(Fault::new(position, format!("unexpected {} in operand", shown(other)))),
            None => return Err(Fault::new(position, "unclosed action: `}}` is missing")),
        };
        while let Some(Kind::Field(name)) = self.peek() {
            if matches!(term, Term::Literal(_) | Term::Nil) {
                return Err(self.fault("unexpected . after term"));
            }
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Operand { position, term, fields })
    }

    fn word(&self, word: &str, position: usize) -> Result<Term, Fault> {
        match word {
            "true" | "false" => Ok(Term::Literal(Value::Bool(word == "true"))),
            "nil" => Ok(Term::Nil),
            _ if self.names.contains_key(word) || functions::exists(word) => Ok(Term::Function(word.to_owned())),
            _ if is_keyword(word) => Err(Fault::new(position, format!("unexpected <{word}> in operand"))),
            _ => {
                let names: Vec<&str> = self.names.keys().copied().collect();
                let message = format!("function \"{word}\" not defined; there are {}", names.join(", "));
                Err(Fault::new(position, message))
            }
        }
    }
}

fn is_keyword(word: &str) -> bool {
    let keywords = ["if", "else", "end", "range", "with", "break", "continue", "define", "template", "block"];
    keywords.contains(&word)
}

fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Text(_) | Kind::Open => "text".to_owned(),
        Kind::Close => "\"}}\"".to_owned(),
        Kind::Space => "blank".to_owned(),
        Kind::Word(word) => format!("<{word}>"),
        Kind::Field(name) => format!("<.{name}>"),
        Kind::Dot => "<.>".to_owned(),
        Kind::Variable(name) => format!("<${name}>"),
        Kind::Quoted(text) => format!("{text:?}"),
        Kind::Int(number) => number.to_string(),
        Kind::Float(number) => number.to_string(),
        Kind::Sign(sign) => format!("\"{sign}\""),
        Kind::Declare => "\":=\"".to_owned(),
        Kind::Assign => "\"=\"".to_owned(),
    }
}
