//! The simple JSON paths of printer columns: fields, indices, and filters by equality.

use serde_json::Value;

/// The first value that a path finds.
pub(super) fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)?.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Index(index) => value.get(index),
        Step::Filter(names, wanted) => value.as_array()?.iter().find(|item| {
            let own = names.iter().try_fold(*item, |value, name| value.get(name));
            own.is_some_and(|own| own.as_str().map_or_else(|| own.to_string(), ToOwned::to_owned) == *wanted)
        }),
        Step::All => value.as_array()?.first(),
    })
}

enum Step {
    Field(String),
    Index(usize),
    /// `[?(@.a.b=="c")]`
    Filter(Vec<String>, String),
    /// `[*]`
    All,
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let end = bracket.find(']')?;
            let (inside, after) = bracket.split_at(end);
            rest = after.get(1..)?;
            steps.push(bracket_step(inside)?);
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut consumed = 0;
        let mut characters = rest.char_indices();
        while let Some((_, c)) = characters.next() {
            match c {
                '.' | '[' => break,
                // `\.` is a dot within a name, as in annotation keys.
                '\\' => {
                    let (_, escaped) = characters.next()?;
                    name.push(escaped);
                    consumed += 1 + escaped.len_utf8();
                }
                c => {
                    name.push(c);
                    consumed += c.len_utf8();
                }
            }
        }
        rest = rest.get(consumed..)?;
        if !name.is_empty() {
            steps.push(Step::Field(name));
        }
    }
    Some(steps)
}

fn bracket_step(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        let (left, right) = filter.split_once("==")?;
        let names = left.trim().strip_prefix("@.")?.split('.').map(ToOwned::to_owned).collect();
        let wanted = right.trim().trim_matches(|c| matches!(c, '"' | '\''));
        return Some(Step::Filter(names, wanted.to_owned()));
    }
    let quoted = inside.trim_matches(|c| matches!(c, '"' | '\''));
    Some(inside.parse().map_or_else(|_| Step::Field(quoted.to_owned()), Step::Index))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_fields_items_and_conditions() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Other", "status": "no"}, {"type": "Promoted", "status": "True"}]}
        });
        let at = |path: &str| find(&object, path).and_then(Value::as_str);
        assert_eq!(at(r#".status.conditions[?(@.type=="Promoted")].status"#), Some("True"));
        assert_eq!(at(".status.conditions[0].status"), Some("no"));
        assert_eq!(at(r".metadata.annotations.a\.b/c"), Some("x"));
        assert_eq!(at(".spec.none"), None);
    }
}
