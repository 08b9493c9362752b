//! The tree is carried out.

use super::parse::{Branch, Command, Node, Operand, Pipe, Term};
use super::value::Value;
use super::{Budget, Fault, Scope, functions, printf};

/// Bytes handled in one step.
const BYTES_PER_STEP: u64 = 64;

/// Renders a tree.
pub(super) fn run(nodes: &[Node], scope: &Scope<'_>) -> Result<String, Fault> {
    let mut machine = Machine {
        scope,
        meter: Meter { budget: scope.budget, steps: 0 },
        out: String::new(),
        variables: vec![(String::new(), Value::Nil)],
    };
    machine.nodes(nodes, &Value::Nil)?;
    Ok(machine.out)
}

/// What has been spent of a budget.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    steps: u64,
}

impl Meter {
    /// One step that handles so many bytes.
    ///
    /// # Errors
    /// In words, when it is one too many.
    pub(super) fn step(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.steps = self.steps.saturating_add(1 + bytes / BYTES_PER_STEP);
        match self.steps > self.budget.steps {
            true => Err(format!("the template takes more than {} steps", self.budget.steps)),
            false => Ok(()),
        }
    }

    /// Longest text, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.budget.bytes
    }

    /// A text or list of so many bytes is about to be made.
    ///
    /// # Errors
    /// In words, when it is too long.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > self.budget.bytes {
            return Err(format!("a text gets longer than {} bytes", self.budget.bytes));
        }
        self.step(bytes)
    }
}

/// What follows a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Machine<'a> {
    scope: &'a Scope<'a>,
    meter: Meter,
    out: String,
    variables: Vec<(String, Value)>,
}

impl Machine<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = match node {
                Node::Text(text, position) => self.write(text, *position).map(|()| Flow::On)?,
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.print(&value, pipe.position)?;
                    }
                    Flow::On
                }
                Node::If(branch) => self.branch(branch, dot, false)?,
                Node::With(branch) => self.branch(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn write(&mut self, text: &str, position: usize) -> Result<(), Fault> {
        let made = self.meter.step(text.len()).and_then(|()| match self.out.len() + text.len() {
            long if long > self.scope.budget.bytes => {
                Err(format!("the result is longer than {} bytes", self.scope.budget.bytes))
            }
            _ => Ok(()),
        });
        made.map_err(|message| Fault::new(position, message))?;
        self.out.push_str(text);
        Ok(())
    }

    fn print(&mut self, value: &Value, position: usize) -> Result<(), Fault> {
        let fault = |message: String| Fault::new(position, message);
        if *value == Value::Nil {
            return Err(Fault::new(position, "there is no value to print"));
        }
        let text = printf::print(value).map_err(fault)?;
        let text = match (self.scope.guard, value.is_foreign()) {
            (Some(guard), true) => {
                self.meter.step(self.out.len()).map_err(fault)?;
                guard(&self.out, &text).map_err(fault)?
            }
            (Some(_) | None, _) => text,
        };
        self.write(&text, position)
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, moves_dot: bool) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match value.is_true() {
            true => self.nodes(&branch.then, if moves_dot { &value } else { dot }),
            false => self.nodes(&branch.other, dot),
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        let value = self.commands(&branch.pipe, dot)?;
        let names = &branch.pipe.variables;
        if let (Value::Int(_), [_, _]) = (&value, names.as_slice()) {
            let message = "can't use a number to iterate over more than one variable";
            return Err(Fault::new(branch.pipe.position, message));
        }
        let items = self.items(&value, branch.pipe.position)?;
        let mut inside = Flow::On;
        if items.is_empty() {
            self.variables.truncate(scope);
            inside = self.nodes(&branch.other, dot)?;
        }
        for (key, item) in items {
            if branch.pipe.assigns {
                match names.as_slice() {
                    [element] => self.assign(element, item.clone()),
                    [index, element] => {
                        self.assign(index, key);
                        self.assign(element, item.clone());
                    }
                    _ => {}
                }
            } else {
                match names.as_slice() {
                    [element] => self.variables.push((element.clone(), item.clone())),
                    [index, element] => {
                        self.variables.push((index.clone(), key));
                        self.variables.push((element.clone(), item.clone()));
                    }
                    _ => {}
                }
            }
            let flow = self.nodes(&branch.then, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                return Ok(Flow::On);
            }
            inside = Flow::On;
        }
        self.variables.truncate(scope);
        Ok(inside)
    }

    /// What a range goes over, with the keys; a whole number counts from 0.
    fn items(&mut self, value: &Value, position: usize) -> Result<Vec<(Value, Value)>, Fault> {
        let fault = |message: String| Fault::new(position, message);
        let items: Vec<(Value, Value)> = match value {
            Value::List(values) => {
                let indices = (0..).map(Value::Int);
                indices.zip(values.iter().cloned()).collect()
            }
            Value::Map { entries, .. } => {
                entries.iter().map(|(key, value)| (Value::text(key.as_str()), value.clone())).collect()
            }
            Value::Int(count) => {
                let many = usize::try_from(*count).unwrap_or(0);
                self.meter.make(many.saturating_mul(size_of::<Value>())).map_err(fault)?;
                (0..*count).map(|index| (Value::Int(index), Value::Int(index))).collect()
            }
            Value::Nil | Value::Missing(_) => Vec::new(),
            Value::Bool(_) | Value::Float(_) | Value::Text(_) => {
                return Err(fault(format!("range can't iterate over {}", value.type_name())));
            }
        };
        self.meter.step(items.len()).map_err(fault)?;
        Ok(items)
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some((_, slot)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *slot = value;
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, Fault> {
        self.meter.step(0).map_err(|message| Fault::new(command.position, message))?;
        let [first, rest @ ..] = command.words.as_slice() else { return Ok(Value::Nil) };
        if first.term == Term::Nil {
            return Err(Fault::new(first.position, "nil is not a command"));
        }
        let Term::Function(name) = &first.term else {
            if !rest.is_empty() || piped.is_some() {
                let message = "can't give argument to non-function";
                return Err(Fault::new(first.position, message));
            }
            return self.operand(first, dot);
        };
        if !first.fields.is_empty() {
            if !rest.is_empty() || piped.is_some() {
                let message = format!("{name} has arguments but cannot be invoked as function");
                return Err(Fault::new(first.position, message));
            }
            return self.operand(first, dot);
        }
        if let Some(value) = self.short_circuit(name, rest, dot, piped.as_ref())? {
            return Ok(value);
        }
        let mut arguments = rest.iter().map(|word| self.operand(word, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped);
        self.call(name, &arguments, first.position)
    }

    /// `and` and `or` look at no argument beyond the one that decides.
    fn short_circuit(
        &mut self,
        name: &str,
        rest: &[Operand],
        dot: &Value,
        piped: Option<&Value>,
    ) -> Result<Option<Value>, Fault> {
        if !matches!(name, "and" | "or") || (rest.is_empty() && piped.is_none()) {
            return Ok(None);
        }
        let mut last = Value::Nil;
        for word in rest {
            last = self.operand(word, dot)?;
            if last.is_true() == (name == "or") {
                return Ok(Some(last));
            }
        }
        Ok(Some(piped.cloned().unwrap_or(last)))
    }

    fn call(&mut self, name: &str, arguments: &[Value], position: usize) -> Result<Value, Fault> {
        let result = match self.scope.names.get(name) {
            Some(value) if arguments.is_empty() => Ok(value.clone()),
            Some(_) => Err(format!("wrong number of args for {name}: want 0 got {}", arguments.len())),
            None => functions::call(name, arguments, &mut self.meter)
                .map_err(|message| format!("error calling {name}: {message}")),
        };
        result.map_err(|message| Fault::new(position, message))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let position = operand.position;
        let mut value = match &operand.term {
            Term::Literal(value) => value.clone(),
            Term::Nil => Value::Nil,
            Term::Dot => dot.clone(),
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Term::Function(name) => self.call(name, &[], position)?,
            Term::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        for field in &operand.fields {
            value = match value {
                Value::Map { entries, .. } => {
                    entries.get(field).cloned().unwrap_or_else(|| Value::Missing(field.clone()))
                }
                Value::Nil | Value::Missing(_) => {
                    return Err(Fault::new(position, format!("nil data; no entry for key \"{field}\"")));
                }
                other => {
                    let message = format!("can't evaluate field {field} in type {}", other.type_name());
                    return Err(Fault::new(position, message));
                }
            };
        }
        Ok(value)
    }
}
