//! Splits a command line into words as a shell does, when no shell is needed for it.

/// Unquoted, these need a shell.
const SHELL: &str = "|&;<>()$`\n";

/// The words of a line; `None` when it needs a shell or a quote is open.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.trim().chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => word.get_or_insert_default().push_str(&quoted(&mut chars, '\'')?),
            '"' => word.get_or_insert_default().push_str(&quoted(&mut chars, '"')?),
            '\\' => word.get_or_insert_default().push(chars.next()?),
            char if SHELL.contains(char) => return None,
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    Some(words)
}

/// The text up to the closing quote. In double quotes a backslash escapes, and an expansion needs a shell.
fn quoted(chars: &mut std::str::Chars<'_>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            char if char == quote => return Some(text),
            '$' | '`' if quote == '"' => return None,
            '\\' if quote == '"' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            char => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn splits_as_a_shell() {
        let words = split(r#"hey  -H 'A: b c' -d "x \"y\" \n" a\ b http://h/?q=1"#).unwrap();
        assert_eq!(words, ["hey", "-H", "A: b c", "-d", r#"x "y" \n"#, "a b", "http://h/?q=1"]);
        assert_eq!(split("hey -d '' x").unwrap(), ["hey", "-d", "", "x"]);
    }

    #[test]
    fn leaves_what_needs_a_shell() {
        for line in ["hey http://a | grep x", "hey $URL", "hey \"$(url)\"", "hey a && hey b", "hey 'open"] {
            assert_eq!(split(line), None, "{line}");
        }
        assert!(split("hey 'http://a/?x=1&y=$2'").is_some());
    }
}
