//! Text that has to fit.

/// The text, or its beginning and end if it has more characters than `max`: API servers say what object it is about first and
/// the reason last.
pub fn abridged(text: &str, max: usize) -> String {
    /// What stands for the rest.
    const GAP: &str = " … ";
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let room = max.saturating_sub(GAP.chars().count());
    let tail = room / 2;
    let head: String = text.chars().take(room - tail).collect();
    let tail: String = text.chars().skip(count - tail).collect();
    format!("{head}{GAP}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_are_kept() {
        assert_eq!(abridged("short", 5), "short");
        let long = format!("Job test/a is invalid: {} field is immutable", "é".repeat(5_000));
        let cut = abridged(&long, 100);
        assert_eq!(cut.chars().count(), 100);
        assert!(cut.starts_with("Job test/a is invalid") && cut.ends_with("field is immutable"), "{cut}");
        for max in 0..8 {
            assert!(abridged("a long text", max).chars().count() <= max.max(3));
        }
    }
}
