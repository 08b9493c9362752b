//! Foreign text in a PromQL query: it may fill in what the query's author left open, and nothing else.

/// Where a text of a query ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between words.
    Open,
    /// Within a comment.
    Comment,
    /// Within quotes of this kind; whether a backslash stands last.
    Quotes(char, bool),
}

/// What `text` has to be written as after `query`, so that it stays within the quotes it stands in, or is one word.
///
/// # Errors
/// In words, when it cannot be.
pub(super) fn fill_in(query: &str, text: &str) -> Result<String, String> {
    match place(query) {
        Place::Quotes('`', _) if text.contains('`') => Err(misplaced(text, "a backquote ends the text there")),
        Place::Quotes('`', _) => Ok(text.to_owned()),
        Place::Quotes(quote, escaped) => Ok(within(quote, escaped, text)),
        Place::Open | Place::Comment if is_word(text) => Ok(text.to_owned()),
        Place::Open if is_quoted(text) => Ok(text.to_owned()),
        Place::Open | Place::Comment => {
            Err(misplaced(text, "there only one word or number may stand; put it in quotes"))
        }
    }
}

fn misplaced(text: &str, why: &str) -> String {
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    format!("the variable's value `{shown}` does not fit into the query: {why}")
}

fn place(query: &str) -> Place {
    let mut place = Place::Open;
    for character in query.chars() {
        place = match (place, character) {
            (Place::Open, '#') => Place::Comment,
            (Place::Open, '"' | '\'' | '`') => Place::Quotes(character, false),
            (Place::Comment, '\n') => Place::Open,
            (Place::Quotes(quote, true), _) => Place::Quotes(quote, false),
            (Place::Quotes(quote, false), '\\') if quote != '`' => Place::Quotes(quote, true),
            (Place::Quotes(quote, false), it) if it == quote => Place::Open,
            (same, _) => same,
        };
    }
    place
}

/// The text with its escapes as they are (a regular expression's among them), and what would end the quotes escaped.
fn within(quote: char, mut escaped: bool, text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\n' if !escaped => out.push_str("\\n"),
            '\n' => out.push('n'),
            it if it == quote && !escaped => out.extend(['\\', it]),
            it => out.push(it),
        }
        escaped = character == '\\' && !escaped;
    }
    if escaped {
        out.push('\\');
    }
    out
}

fn is_word(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | ':' | '.' | '+' | '-'))
}

/// Whether it is one double-quoted text, whole.
fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut escaped = false;
    for character in inner.chars() {
        if character == '\n' || (character == '"' && !escaped) {
            return false;
        }
        escaped = character == '\\' && !escaped;
    }
    !escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_the_quotes_it_stands_in() {
        let attacks = [
            "\"})) or sum(secret{a=\"",
            "'}) or vector(1",
            "x\\",
            "x\\\"} or up{a=\"",
            "x\\\\\"} or up{a=\"",
            "a\nb",
            "`",
            "\\\n\"",
        ];
        for before in ["m{a=\"", "m{a='", "m{a=~\"x\\\\", "m{b=\"#\",a=\"", "# \"\nm{a=\""] {
            let quote = place(before);
            for attack in attacks {
                let filled = fill_in(before, attack).unwrap();
                assert_eq!(place(&format!("{before}{filled}")), quote, "{before}{filled}");
                assert!(!filled.contains('\n'));
            }
        }
        assert!(fill_in("m{a=`", "x` or up").is_err());
    }

    #[test]
    fn expressions_that_fit_stay_as_they_are() {
        for text in ["5\\\\d+", "a|b", "GET", "/api/.*", "it's", "a{2}"] {
            assert_eq!(fill_in("m{a=~\"", text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn outside_of_quotes_only_words_stand() {
        for text in ["http_requests_total", "5m", "0.95", "-1", "job:rate5m", "\"quoted, \\\" whole\""] {
            assert_eq!(fill_in("sum(", text).as_deref(), Ok(text), "{text}");
        }
        for text in ["a) or b", "a{b}", "a b", "\"a\" or \"b\"", "\"a", "a#", "[5m]"] {
            assert!(fill_in("sum(", text).is_err(), "{text}");
        }
        assert!(fill_in("# ", "a\nup").is_err());
    }
}
