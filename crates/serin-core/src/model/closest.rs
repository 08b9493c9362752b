//! What was meant by a name that is not known.

/// Letters of a name for one mistake more.
const LETTERS_A_MISTAKE: usize = 4;

/// The known name that was meant, if one is close: without regard to case, a letter more, less or wrong, and another one for
/// every four. Two are never taken for one another whole: what is left has to be longer than what is wrong.
pub fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (mistakes, found) = known.map(|known| (distance(name, known), known)).min()?;
    let most = name.chars().count() / LETTERS_A_MISTAKE + 1;
    (mistakes <= most && mistakes < name.chars().count().max(1)).then_some(found)
}

/// Edits from one text to another, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.to_lowercase().chars().enumerate() {
        let mut before = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (other, above) in b.iter().zip(row.iter().skip(1)) {
            left = (before + usize::from(letter != *other)).min(left + 1).min(above + 1);
            before = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_was_meant() {
        let known = ["stepWeight", "stepWeights", "maxWeight", "min", "max", "type"];
        for (name, meant) in [
            ("stepWieght", Some("stepWeight")),
            ("stepweights", Some("stepWeights")),
            ("mn", Some("min")),
            ("typ", Some("type")),
            ("x", None),
            ("interval", None),
            ("", None),
        ] {
            assert_eq!(closest(name, known.into_iter()), meant, "{name}");
        }
    }
}
