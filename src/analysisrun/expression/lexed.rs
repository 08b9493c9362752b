//! An expression's words, looked at before anything evaluates it: what it asks about, and how much it may cost.
//!
//! The language has no budget of its own. What could take time or memory without end (ranges, statements, words that repeat) is
//! refused here, and what is left is bounded by brackets, operators and the sample's size.

use std::collections::BTreeSet;

/// Longest expression in bytes: people's are a line.
const TEXT_MAX: usize = 1024;
/// Most operators: the evaluator goes one call deeper with each.
const OPERATORS_MAX: usize = 64;
/// Deepest brackets.
const NESTED_MAX: usize = 16;
/// Deepest square brackets: the parser reads what is within twice.
const INDEXED_MAX: usize = 6;
/// Words that make much of little.
const REFUSED: [&str; 4] = ["let", "reduce", "repeat", "$env"];
/// Functions that look at every item, and so again at each level of nesting.
const OF_ITEMS: [&str; 16] = [
    "all",
    "any",
    "one",
    "none",
    "map",
    "filter",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "groupBy",
    "sortBy",
    "count",
    "sum",
    "sort",
    "uniq",
];
/// What people write who know that there may be nothing.
const ABOUT_NOTHING: [&str; 4] = ["len", "isNil", "default", "nil"];

/// What is known of an expression by its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lexed {
    /// How often the items of a sample may be gone through within each other.
    pub(super) depth: u32,
    /// It says what an empty answer means.
    pub(super) knows_nothing: bool,
    /// It says what NaN or infinity mean.
    pub(super) knows_nan: bool,
}

/// Reads the words.
///
/// # Errors
/// With what is refused, in words.
pub(super) fn lex(text: &str) -> Result<Lexed, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("it has {} bytes, {TEXT_MAX} are allowed", text.len()));
    }
    let mut scan = Scan { rest: text, ..Scan::default() };
    while scan.step()? {}
    if scan.operators > OPERATORS_MAX {
        return Err(format!("it has {} operators, {OPERATORS_MAX} are allowed", scan.operators));
    }
    if let Some(word) = REFUSED.iter().find(|word| scan.words.contains(**word)) {
        return Err(format!("`{word}` is not carried out: what it takes has no bound"));
    }
    let says = |words: &[&str]| words.iter().any(|word| scan.words.contains(*word));
    Ok(Lexed {
        depth: scan.deepest,
        knows_nothing: says(&ABOUT_NOTHING) || scan.has_fallback,
        knows_nan: says(&["isNaN", "isInf"]),
    })
}

/// A bracket that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Any other.
    Plain,
    /// Of an index.
    Index,
    /// Of a function that looks at every item; whether its first comma has come.
    Items { inside: bool },
}

#[derive(Debug, Default)]
struct Scan<'a> {
    rest: &'a str,
    words: BTreeSet<&'a str>,
    /// The word right before the present place.
    last: &'a str,
    open: Vec<Open>,
    deepest: u32,
    operators: usize,
    has_fallback: bool,
}

impl<'a> Scan<'a> {
    /// One token; `false` at the end.
    fn step(&mut self) -> Result<bool, String> {
        let Some(first) = self.rest.chars().next() else { return Ok(false) };
        let last = std::mem::take(&mut self.last);
        match first {
            'a'..='z' | 'A'..='Z' | '_' | '$' | '#' => self.word(),
            '0'..='9' => self.number(),
            '"' | '\'' | '`' => self.quoted(first)?,
            '(' => {
                self.enter(if OF_ITEMS.contains(&last) { Open::Items { inside: false } } else { Open::Plain })?
            }
            '[' => self.enter(Open::Index)?,
            '{' => self.enter(Open::Plain)?,
            ')' | ']' | '}' => {
                self.open.pop();
                self.skip(1);
            }
            ',' => {
                if let Some(Open::Items { inside }) = self.open.last_mut() {
                    *inside = true;
                }
                self.skip(1);
            }
            '.' if self.rest.starts_with("..") => return Err("a range `..` is not carried out".to_owned()),
            '?' if self.rest.starts_with("??") || self.rest.starts_with("?.") => {
                self.has_fallback = true;
                self.operators += 1;
                self.skip(2);
            }
            '+' | '-' | '*' | '/' | '%' | '^' | '&' | '|' | '=' | '!' | '<' | '>' | '?' => {
                self.operators += 1;
                self.skip(1);
            }
            other => self.skip(other.len_utf8()),
        }
        Ok(true)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word(&mut self) {
        let is_part = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '$' | '#');
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default();
        self.skip(end);
        if matches!(word, "and" | "or" | "not" | "in" | "contains" | "matches" | "startsWith" | "endsWith") {
            self.operators += 1;
        }
        if word == "result" {
            self.reads_sample();
        }
        self.words.insert(word);
        self.last = word;
    }

    /// The sample is copied where it is named: within a function of every item, once for each.
    fn reads_sample(&mut self) {
        let around = self.open.iter().filter(|open| matches!(open, Open::Items { inside: true })).count();
        let level = u32::try_from(around).unwrap_or(u32::MAX).saturating_add(1);
        self.deepest = self.deepest.max(level);
    }

    fn number(&mut self) {
        // `1..3` is a range: the dots are looked at by themselves.
        let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        self.skip(end);
    }

    fn quoted(&mut self, quote: char) -> Result<(), String> {
        let mut escaped = false;
        for (index, it) in self.rest.char_indices().skip(1) {
            if it == quote && !escaped {
                self.skip(index + 1);
                return Ok(());
            }
            escaped = it == '\\' && !escaped && quote != '`';
        }
        Err(format!("a text that begins with {quote} does not end"))
    }

    fn enter(&mut self, open: Open) -> Result<(), String> {
        self.open.push(open);
        let indexed = self.open.iter().filter(|open| **open == Open::Index).count();
        if self.open.len() > NESTED_MAX || indexed > INDEXED_MAX {
            return Err("its brackets are nested too deep".to_owned());
        }
        if matches!(open, Open::Items { .. }) {
            let levels = self.open.iter().filter(|open| matches!(open, Open::Items { .. })).count();
            self.deepest = self.deepest.max(u32::try_from(levels).unwrap_or(u32::MAX));
        }
        self.skip(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_bound_is_refused() {
        for text in [
            "len(1..9999999999) > 0",
            "let x = 1; x > 0",
            "reduce(result, #acc + #) > 1",
            "repeat('a', 1000000) == ''",
            "result['a",
            &format!("{}1{} > 0", "(".repeat(40), ")".repeat(40)),
            &"result[".repeat(10),
            &format!("true{}", " && true".repeat(80)),
            &" ".repeat(2000),
        ] {
            assert!(lex(text).is_err(), "{text}");
        }
        assert!(lex("result matches '[.]..[.]' && \"..\" == `let`").is_ok(), "what stands in quotes is text");
        assert!(lex("result[0] > 0.5 && result[1:2][0] < 1.5").is_ok());
    }

    #[test]
    fn words_tell_what_an_expression_knows_and_costs() {
        let of = |text: &str| lex(text).map(|lexed| (lexed.depth, lexed.knows_nothing, lexed.knows_nan));
        for (text, expected) in [
            ("result[0] > 0.9", (1, false, false)),
            ("len(result) == 0 || result[0] >= 0.95", (1, true, false)),
            ("isNaN(result) || result >= 0.95", (1, false, true)),
            ("default(result, 0) < 0.05", (1, true, false)),
            ("(result.ok ?? false) == true", (1, true, false)),
            ("all(result, # >= 0.9)", (1, false, false)),
            ("all(result, # >= result[0])", (2, false, false)),
            ("all(result, any(#.items, # > 1))", (2, false, false)),
        ] {
            assert_eq!(of(text), Ok(expected), "{text}");
        }
    }
}
