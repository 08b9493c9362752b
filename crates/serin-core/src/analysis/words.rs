//! Values and limits as Flagger prints them.

/// A percentage as in `success rate 69.17%`.
pub fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

/// Milliseconds as Go prints a duration: `500ms`, `1.205s`, `1m0.5s`. Fractions of a millisecond are cut, as in Flagger.
pub fn milliseconds(value: f64) -> String {
    let millis = value.trunc() as i64;
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let seconds = seconds(rest);
    match (hours, minutes, rest) {
        (0, 0, 0) => "0s".to_owned(),
        (0, 0, rest) if rest < 1000 => format!("{sign}{rest}ms"),
        (0, 0, _) => format!("{sign}{seconds}"),
        (0, minutes, _) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes, _) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

fn seconds(millis: u64) -> String {
    let (whole, fraction) = (millis / 1000, millis % 1000);
    if fraction == 0 {
        return format!("{whole}s");
    }
    let fraction = format!("{fraction:03}");
    format!("{whole}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_durations_like_go() {
        let cases = [
            (0.0, "0s"),
            (500.9, "500ms"),
            (1000.0, "1s"),
            (1205.0, "1.205s"),
            (60_500.0, "1m0.5s"),
            (3_600_000.0, "1h0m0s"),
        ];
        for (value, text) in cases {
            assert_eq!(milliseconds(value), text);
        }
    }
}
