//! What of a repository is left out: patterns as in `.gitignore`, from the settings and from `.serinignore` files. PURE.

use regex::{Regex, RegexBuilder};

/// The file that names what is left out of its folder and below.
pub const IGNORE_FILE: &str = ".serinignore";
/// Bytes of one such file: thousands of patterns.
pub(super) const IGNORE_BYTES_MAX: usize = 64 << 10;
/// Patterns in force at one place: each is asked about every file below it.
const RULES_MAX: usize = 1_000;
/// Characters of one pattern: longer than any path needs, short enough that what it compiles to is small.
const PATTERN_MAX: usize = 512;
/// Bytes that one compiled pattern may take.
const COMPILED_MAX: usize = 1 << 18;

/// Patterns in the order in which they were read: the last one that meets a path decides.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Of whole paths from the repository's root.
    meets: Regex,
    /// `!`: what an earlier one leaves out is in again.
    again: bool,
    folders_only: bool,
}

impl Ignore {
    /// Patterns for the whole repository.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ignore = Self::default();
        patterns.into_iter().for_each(|pattern| ignore.add("", pattern));
        ignore
    }

    /// Adds the lines of a file in `folder` (empty: the repository's root).
    pub fn add(&mut self, folder: &str, text: &str) {
        let room = RULES_MAX.saturating_sub(self.rules.len());
        self.rules.extend(text.lines().filter_map(|line| rule(folder, line)).take(room));
    }

    /// How many patterns there are; [`Ignore::forget`] goes back to it.
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Drops what was added since there were `len` patterns.
    pub(super) fn forget(&mut self, len: usize) {
        self.rules.truncate(len);
    }

    /// Whether a path is left out by itself. What is in a folder that is left out is so, too, whatever else is said of it.
    pub fn leaves_out(&self, path: &str, is_folder: bool) -> bool {
        self.verdict(path, is_folder).unwrap_or(false)
    }

    /// What the patterns say of a path, if they say anything.
    pub(super) fn verdict(&self, path: &str, is_folder: bool) -> Option<bool> {
        let meets = |rule: &&Rule| (is_folder || !rule.folders_only) && rule.meets.is_match(path);
        self.rules.iter().rev().find(meets).map(|rule| !rule.again)
    }
}

/// One line as Git reads it; `None` if it is blank, a comment, or can meet nothing.
fn rule(folder: &str, line: &str) -> Option<Rule> {
    let line = trimmed(line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() || line.starts_with('#') || line.len() > PATTERN_MAX {
        return None;
    }
    let (again, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let (folders_only, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
    // With a slash that is not at its end a pattern is of the folder that its file is in, else of any below.
    let (anchored, line) = match line.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (line.contains('/'), line),
    };
    let base = if folder.is_empty() { String::new() } else { format!("{}/", regex::escape(folder)) };
    let depth = if anchored { "" } else { "(?:.*/)?" };
    let pattern = format!("^{base}{depth}{}$", expression(line)?);
    let meets = RegexBuilder::new(&pattern).size_limit(COMPILED_MAX).dot_matches_new_line(true).build().ok()?;
    Some(Rule { meets, again, folders_only })
}

/// Without blanks at the end, unless the last one is escaped.
fn trimmed(line: &str) -> &str {
    let trimmed = line.trim_end_matches([' ', '\t']);
    let escapes = trimmed.chars().rev().take_while(|c| *c == '\\').count();
    if escapes % 2 == 1 { line.get(..=trimmed.len()).unwrap_or(trimmed) } else { trimmed }
}

/// A pattern as a regular expression; `None` if it is not finished.
fn expression(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let at_part = out.is_empty() || rest.len() == pattern.len() || out.ends_with('/') || out.ends_with(")?");
        if let Some(after) = rest.strip_prefix("**/").filter(|_| at_part) {
            out.push_str("(?:.*/)?");
            rest = after;
            continue;
        }
        if rest == "**" && at_part {
            out.push_str(".+");
            return Some(out);
        }
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '*' => {
                rest = rest.trim_start_matches('*');
                out.push_str("[^/]*");
            }
            '?' => out.push_str("[^/]"),
            '[' => rest = class(rest, &mut out)?,
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = rest.get(escaped.len_utf8()..)?;
                out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            }
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Some(out)
}

/// A set of characters after its `[`; what follows its `]`.
fn class<'p>(text: &'p str, out: &mut String) -> Option<&'p str> {
    let (negated, body) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    // A `]` that comes first is one of the set.
    let mut chars = body.char_indices().peekable();
    let mut set = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            ']' if at > 0 => {
                out.push_str(if negated { "[^/" } else { "[" });
                out.push_str(&set);
                out.push(']');
                return body.get(at + 1..);
            }
            '\\' => {
                let (_, escaped) = chars.next()?;
                set.push_str(&format!("\\x{{{:x}}}", u32::from(escaped)));
            }
            '-' if at > 0 && chars.peek().is_some_and(|(_, next)| *next != ']') => set.push('-'),
            c => set.push_str(&format!("\\x{{{:x}}}", u32::from(c))),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of files; of each also its folders decide.
    fn left_out(rules: &[(&str, &str)], path: &str) -> bool {
        let mut ignore = Ignore::default();
        rules.iter().for_each(|(folder, text)| ignore.add(folder, text));
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        folders
            .map(|folder| (folder, true))
            .chain([(path, false)])
            .any(|(path, folder)| ignore.leaves_out(path, folder))
    }

    /// Patterns, paths that they leave out, and paths that they keep.
    type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

    const CASES: [Case; 14] = [
        ("values.yaml", &["values.yaml", "a/b/values.yaml"], &["xvalues.yaml", "values.yaml.bak"]),
        ("/values.yaml", &["values.yaml"], &["a/values.yaml"]),
        ("charts/", &["charts/a.yaml", "a/charts/b/c.yaml"], &["charts", "acharts/b.yaml"]),
        ("a/*.json", &["a/x.json"], &["a/b/x.json", "b/a/x.json"]),
        ("a/**/x.yaml", &["a/x.yaml", "a/b/c/x.yaml"], &["x.yaml", "b/a/x.yaml"]),
        ("**/gen/*.yaml", &["gen/a.yaml", "x/y/gen/a.yaml"], &["gen/b/a.yaml"]),
        ("gen/**", &["gen/a.yaml", "gen/b/c.yaml"], &["gen", "x/gen/a.yaml"]),
        ("*\n!keep.yaml", &["a.yaml"], &["keep.yaml"]),
        ("a?.y[am]*l", &["ab.yaml", "ab.ymxl"], &["a/.yaml", "ab.yxml"]),
        ("[!a-c].yaml", &["d.yaml"], &["a.yaml", "b.yaml"]),
        ("# no\n\n\\#yes  \nspace\\ ", &["#yes", "space "], &["# no", "space"]),
        ("a.b+(c)", &["a.b+(c)"], &["axb+(c)", "a.bb"]),
        ("[]-].yaml", &["].yaml", "-.yaml"], &["a.yaml"]),
        ("[z\nok.yaml", &["ok.yaml"], &["[z", "z"]),
    ];

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        for (text, out, kept) in CASES {
            for path in out {
                assert!(left_out(&[("", text)], path), "{text:?} leaves out {path}");
            }
            for path in kept {
                assert!(!left_out(&[("", text)], path), "{text:?} keeps {path}");
            }
        }
    }

    #[test]
    fn a_file_speaks_of_its_own_folder_and_has_the_last_word_there() {
        let rules = [("", "*.json"), ("apps/web", "!package.json\n/top.yaml")];
        assert!(left_out(&rules, "package.json"));
        assert!(!left_out(&rules, "apps/web/x/package.json"));
        assert!(left_out(&rules, "apps/web/top.yaml"));
        assert!(!left_out(&rules, "apps/web/x/top.yaml") && !left_out(&rules, "top.yaml"));
        assert!(!left_out(&[("a.b", "x")], "aXb/x"), "a folder's name is no pattern");
    }

    #[test]
    fn git_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let git =
            |args: &[&str]| std::process::Command::new("git").args(args).current_dir(folder.path()).output().ok();
        if git(&["init", "-q", "."]).is_none_or(|output| !output.status.success()) {
            // A visible skip is the integration tests' to make.
            return;
        }
        for (text, out, kept) in CASES {
            std::fs::write(folder.path().join(".gitignore"), text).unwrap();
            for path in out.iter().chain(kept) {
                let output = git(&["check-ignore", "-q", "--no-index", "--", path]).unwrap();
                assert_eq!(left_out(&[("", text)], path), output.status.success(), "{text:?} {path:?}");
            }
        }
    }

    #[test]
    fn nobodys_patterns_cost_much() {
        let mut ignore = Ignore::default();
        ignore.add("", &"*a*b*c*d*e*f*g*h*\n".repeat(RULES_MAX * 2));
        ignore.add("", &"x".repeat(PATTERN_MAX + 1));
        assert_eq!(ignore.len(), RULES_MAX);
        assert!(!ignore.leaves_out(&"abcdefg/".repeat(100), false));
    }
}
