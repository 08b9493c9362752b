//! Functions on texts, as sprig has them.

use regex::RegexBuilder;

use super::eval::Meter;
use super::functions::{wants, whole};
use super::printf;
use super::value::Value;

/// Their names.
pub(super) const NAMES: &[&str] = &[
    "trim",
    "trimAll",
    "trimPrefix",
    "trimSuffix",
    "upper",
    "lower",
    "title",
    "untitle",
    "repeat",
    "substr",
    "trunc",
    "nospace",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "quote",
    "squote",
    "cat",
    "indent",
    "nindent",
    "replace",
    "toString",
    "join",
    "splitList",
    "regexMatch",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "regexQuoteMeta",
];
/// Memory of one compiled expression, in bytes.
const REGEX_MAX: usize = 256 * 1024;
/// What compiling one is counted as, in bytes handled.
const REGEX_COST: usize = 16 * 1024;

/// Calls one of [`NAMES`].
pub(super) fn call(name: &str, arguments: &[Value], foreign: bool, meter: &mut Meter) -> Result<Value, String> {
    // What is joined of values of any kind.
    match (name, arguments) {
        ("quote", values) => return words(values, printf::quoted).map(Value::text),
        ("squote", values) => {
            return words(values, |word| format!("'{word}'")).map(|text| Value::text_of(text, foreign));
        }
        ("cat", values) => return words(values, str::to_owned).map(|text| Value::text_of(text, foreign)),
        ("toString", [value]) => return printf::print(value).map(|text| Value::text_of(text, foreign)),
        ("join", [Value::Text(by), Value::List(values)]) => {
            let parts = values.iter().map(printf::print).collect::<Result<Vec<_>, _>>()?;
            let length = parts.iter().map(String::len).sum::<usize>() + by.text.len() * parts.len();
            meter.make(length)?;
            return Ok(Value::text_of(parts.join(&by.text), foreign));
        }
        _ => {}
    }
    let texts = arguments.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let number = |index: usize| arguments.get(index).map_or(0, whole);
    let made = match (name, texts.as_slice()) {
        ("trim", [text]) => text.trim().to_owned(),
        ("trimAll", [set, text]) => text.trim_matches(|it| set.contains(it)).to_owned(),
        ("trimPrefix", [prefix, text]) => text.strip_prefix(prefix).unwrap_or(text).to_owned(),
        ("trimSuffix", [suffix, text]) => text.strip_suffix(suffix).unwrap_or(text).to_owned(),
        ("upper", [text]) => text.to_uppercase(),
        ("lower", [text]) => text.to_lowercase(),
        ("title", [text]) => initials(text, |it| it.to_uppercase().collect()),
        ("untitle", [text]) => initials(text, |it| it.to_lowercase().collect()),
        ("repeat", [_, text]) => {
            let count = usize::try_from(number(0)).map_err(|_| "a negative count".to_owned())?;
            meter.make(text.len().saturating_mul(count))?;
            text.repeat(count)
        }
        ("substr", [_, _, text]) => substr(number(0), number(1), text),
        ("trunc", [_, text]) => trunc(number(0), text),
        ("nospace", [text]) => text.chars().filter(|it| !it.is_whitespace()).collect(),
        ("contains", [part, text]) => return Ok(Value::Bool(text.contains(part))),
        ("hasPrefix", [prefix, text]) => return Ok(Value::Bool(text.starts_with(prefix))),
        ("hasSuffix", [suffix, text]) => return Ok(Value::Bool(text.ends_with(suffix))),
        ("indent" | "nindent", [_, text]) => {
            let width = usize::try_from(number(0)).map_err(|_| "a negative width".to_owned())?;
            let lines = text.matches('\n').count() + 1;
            meter.make(width.saturating_mul(lines).saturating_add(text.len()))?;
            let blanks = " ".repeat(width);
            let indented = format!("{blanks}{}", text.replace('\n', &format!("\n{blanks}")));
            if name == "nindent" { format!("\n{indented}") } else { indented }
        }
        ("replace", [from, to, text]) => {
            let times = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
            meter.make(text.len().saturating_add(times.saturating_mul(to.len())))?;
            text.replace(from, to)
        }
        ("splitList", [by, text]) => {
            let parts: Vec<&str> = if by.is_empty() {
                text.char_indices().map(|(at, it)| &text[at..at + it.len_utf8()]).collect()
            } else {
                text.split(by).collect()
            };
            meter.make(parts.len().saturating_mul(size_of::<Value>()))?;
            return Ok(Value::list(parts.into_iter().map(|part| Value::text_of(part, foreign)).collect()));
        }
        ("regexMatch", [expression, text]) => {
            return Ok(Value::Bool(regex(expression, meter)?.is_match(text)));
        }
        ("regexReplaceAll", [expression, text, by]) => replace_all(expression, text, by, false, meter)?,
        ("regexReplaceAllLiteral", [expression, text, by]) => replace_all(expression, text, by, true, meter)?,
        ("regexQuoteMeta", [text]) => regex::escape(text),
        (name, texts) => return wants(name, "other arguments", texts.len()),
    };
    meter.make(made.len())?;
    Ok(Value::text_of(made, foreign))
}

fn argument(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.text.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        Value::Missing(name) => Err(printf::missing(name)),
        Value::Nil | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map { .. } => {
            Err(format!("wrong type for value; expected string; got {}", value.type_name()))
        }
    }
}

/// The values that are not nil, each made something of, with blanks between them.
fn words(values: &[Value], each: impl Fn(&str) -> String) -> Result<String, String> {
    let there = values.iter().filter(|value| **value != Value::Nil);
    let words = there.map(|value| printf::print(value).map(|text| each(&text)));
    Ok(words.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn initials(text: &str, change: impl Fn(char) -> String) -> String {
    let mut before = ' ';
    text.chars()
        .map(|it| {
            let first = !(before.is_alphanumeric() || before == '_' || before == '\'');
            before = it;
            if first { change(it) } else { it.to_string() }
        })
        .collect()
}

/// As sprig's: byte positions; a negative start is the beginning, a negative or too large end is the end.
fn substr(start: i64, end: i64, text: &str) -> String {
    let start = usize::try_from(start).unwrap_or(0);
    let end = usize::try_from(end).ok().filter(|end| *end <= text.len()).unwrap_or(text.len());
    text.get(start..end).unwrap_or_default().to_owned()
}

fn trunc(count: i64, text: &str) -> String {
    let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if text.len() <= length {
        return text.to_owned();
    }
    let part = if count < 0 { text.get(text.len() - length..) } else { text.get(..length) };
    part.unwrap_or_default().to_owned()
}

fn regex(expression: &str, meter: &mut Meter) -> Result<regex::Regex, String> {
    meter.step(REGEX_COST)?;
    let built = RegexBuilder::new(expression).size_limit(REGEX_MAX).build();
    built.map_err(|error| format!("the expression {expression:?} cannot be used: {error}"))
}

fn replace_all(
    expression: &str,
    text: &str,
    by: &str,
    literal: bool,
    meter: &mut Meter,
) -> Result<String, String> {
    let found = regex(expression, meter)?;
    // A reference to a group may bring any part of the text again.
    let references = if literal { 0 } else { by.matches('$').count() };
    let each = by.len().saturating_add(references.saturating_mul(text.len()));
    let times = found.find_iter(text).count();
    meter.make(text.len().saturating_add(times.saturating_mul(by.len())))?;
    if each.saturating_mul(times) > meter.bytes() {
        let exact: usize = found.captures_iter(text).map(|it| expanded(&it, by)).sum();
        meter.make(text.len().saturating_add(exact))?;
    }
    Ok(match literal {
        true => found.replace_all(text, regex::NoExpand(by)).into_owned(),
        false => found.replace_all(text, by).into_owned(),
    })
}

/// How long one replacement gets.
fn expanded(captures: &regex::Captures<'_>, by: &str) -> usize {
    let longest = captures.iter().flatten().map(|group| group.len()).max().unwrap_or(0);
    by.len() + by.matches('$').count() * longest
}

/// As Go's `HTMLEscapeString`.
pub(super) fn html(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// As Go's `url.QueryEscape`.
pub(super) fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
