//! `releaseWindows` of the settings, with the fields that a Canary has for them.

use super::reader::{Errors, Fields, Place};
use crate::api::{ReleaseWindow, ReleaseWindowKind};
use crate::calendar::{self, Window, WindowProblem};

/// A window and where its fields were written.
struct Written {
    window: ReleaseWindow,
    places: [(&'static str, Place); 3],
}

/// Reads the list.
pub(super) fn read(fields: &mut Fields, errors: &mut Errors<'_>) -> Vec<Window> {
    let sections = fields.sections("releaseWindows", errors);
    let written: Vec<Written> = sections.into_iter().filter_map(|item| one(item, errors)).collect();
    let windows: Vec<ReleaseWindow> = written.iter().map(|written| written.window.clone()).collect();
    calendar::compile(&windows).unwrap_or_else(|WindowProblem { index, field, message }| {
        let places = index.and_then(|index| Some(written.get(index)?.places)).into_iter().flatten();
        let place = places.into_iter().find(|(name, _)| *name == field).map(|(_, place)| place);
        errors.add(place.unwrap_or_default(), &format!("`releaseWindows`: {message}"));
        Vec::new()
    })
}

fn one(mut item: Fields, errors: &mut Errors<'_>) -> Option<Written> {
    let kind = item.parsed("kind", errors, parse_kind).unwrap_or_default();
    let places = ["schedule", "timeZone", "duration"].map(|field| (field, item.place_of(&[field])));
    let schedule = item.needed("schedule", errors);
    let time_zone = item.text("timeZone", errors).map(|(zone, _)| zone);
    let duration = item.needed("duration", errors);
    item.finish(errors);
    let window = ReleaseWindow { kind, schedule: schedule?, time_zone, duration: duration? };
    Some(Written { window, places })
}

fn parse_kind(text: &str) -> Result<ReleaseWindowKind, String> {
    match text {
        "allow" => Ok(ReleaseWindowKind::Allow),
        "freeze" => Ok(ReleaseWindowKind::Freeze),
        other => Err(format!("`{other}` is no kind of window; use `allow` or `freeze`")),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{RunArgs, Settings};

    fn read(windows: &str) -> Result<Vec<String>, String> {
        let text = format!(
            "cluster: {{name: prod}}\ngit: {{url: https://git.example.com/a.git}}\nreleaseWindows:\n{windows}"
        );
        let settings = Settings::from_text("serin.yaml", &text, &RunArgs::default());
        settings
            .map(|settings| settings.windows.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn windows_are_read_with_their_defaults() {
        let text = "- {schedule: 0 9 * * 1-5, duration: 8h, timeZone: Europe/Berlin}\n- {kind: freeze, schedule: 0 0 24 12 *, duration: 72h}\n";
        let expected = ["\"0 9 * * 1-5\" for 8h (Europe/Berlin)", "\"0 0 24 12 *\" for 72h (UTC)"];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_was_written() {
        let cases = [
            ("- {schedule: 0 9 * * 8, duration: 8h}\n", "the weekday `8`", "serin.yaml:4:4"),
            ("- {schedule: 0 9 * * 1, duration: 8 hours}\n", "is not a duration", "serin.yaml:4:25"),
            ("- {schedule: 0 9 * * 1, duration: 8h, timeZone: Berlin}\n", "no time zone", "serin.yaml:4:39"),
            (
                "- {kind: deny, schedule: 0 9 * * 1, duration: 8h}\n",
                "`deny` is no kind of window",
                "serin.yaml:4:10",
            ),
            ("- {duration: 8h}\n", "`releaseWindows[0].schedule` is missing", "serin.yaml:4:3"),
            (
                "- {schedule: 0 9 * * 1, duration: 8h, zone: UTC}\n",
                "unknown field `releaseWindows[0].zone`",
                "serin.yaml:4:39",
            ),
            ("- sometimes\n", "`releaseWindows[0]` must be a mapping", "serin.yaml:4:3"),
        ];
        for (text, expected, place) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && error.contains(place), "{text}: {error}");
        }
    }
}
