//! Durations as manifests write them: Go's `1m`, `30s`, `1m30s`, `1.5h`, `500ms`.

use std::time::Duration;

/// Text that is not a Go duration, or not a positive one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration such as `30s` or `1m30s`: {reason}")]
pub struct DurationError {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Longest accepted duration: a year. Longer is a typing error, and would overflow arithmetic on time stamps.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses a Go duration; negative and unit-less ones are errors.
///
/// # Errors
/// When the text is not a duration, is negative, or is longer than a year.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = |reason: &str| DurationError { text: text.to_owned(), reason: reason.to_owned() };
    if text.trim().is_empty() {
        return Err(error("it is empty"));
    }
    // The number grammar is checked here: `f64` would also take `inf`, `nan` and exponents, on which conversion panics.
    if !text.chars().all(|c| c.is_ascii_digit() || ".+-nuµμsmh".contains(c)) || text.len() > 64 {
        return Err(error("expected numbers with the units ns, us, ms, s, m or h"));
    }
    if longest_digit_run(text) > 12 {
        return Err(error("it is longer than a year"));
    }
    let parsed: kube::core::Duration = text.parse().map_err(|cause| error(&format!("{cause}")))?;
    if parsed.is_negative() {
        return Err(error("it is negative"));
    }
    let duration = Duration::from(parsed);
    if duration > LONGEST { Err(error("it is longer than a year")) } else { Ok(duration) }
}

fn longest_digit_run(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

/// An optional duration with its default and a floor.
///
/// # Errors
/// When it is given and does not parse.
pub fn or_default(text: Option<&str>, default: Duration, floor: Duration) -> Result<Duration, DurationError> {
    match text {
        None | Some("") => Ok(default.max(floor)),
        Some(text) => Ok(parse(text)?.max(floor)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_parses_and_nothing_else() {
        for (text, millis) in
            [("1m", 60_000), ("30s", 30_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("500ms", 500), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "1d", "-5s", "infs", "nans", "1e300h", "99999999999999999h", "m", "1m x", "999999h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_and_floors() {
        let (minute, ten) = (Duration::from_secs(60), Duration::from_secs(10));
        assert_eq!(or_default(None, minute, ten), Ok(minute));
        assert_eq!(or_default(Some("1s"), minute, ten), Ok(ten));
        assert!(or_default(Some("soon"), minute, ten).is_err());
    }
}
