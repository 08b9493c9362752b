//! Cron lines, time zones and windows against the standard's meaning.

use std::time::Duration;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::*;

fn line(text: &str) -> CronLine {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next beginnings, as text.
fn upcoming(text: &str, from: &str, count: usize) -> Vec<String> {
    let line = line(text);
    let mut at: DateTime = from.parse().unwrap();
    (0..count)
        .map(|_| {
            at = line.after(at).unwrap();
            at.strftime("%a %F %R").to_string()
        })
        .collect()
}

#[test]
fn the_standards_lines_mean_what_the_standard_says() {
    // Friday, 27 November 2026.
    let from = "2026-11-27T04:00:00";
    let cases: &[(&str, &[&str])] = &[
        ("0 9 * * 1-5", &["Fri 2026-11-27 09:00", "Mon 2026-11-30 09:00"]),
        ("0 9 * * mon-FRI", &["Fri 2026-11-27 09:00", "Mon 2026-11-30 09:00"]),
        // Sunday is 0, and 7.
        ("0 0 * * 0", &["Sun 2026-11-29 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 * * 7", &["Sun 2026-11-29 00:00", "Sun 2026-12-06 00:00"]),
        ("0 0 * * 5-7", &["Sat 2026-11-28 00:00", "Sun 2026-11-29 00:00", "Fri 2026-12-04 00:00"]),
        ("0 0 * * sun", &["Sun 2026-11-29 00:00"]),
        ("0 0 * * 1", &["Mon 2026-11-30 00:00"]),
        ("0 0 * * 6", &["Sat 2026-11-28 00:00"]),
        // Both kinds of days restricted: either.
        ("0 0 1 * 5", &["Tue 2026-12-01 00:00", "Fri 2026-12-04 00:00", "Fri 2026-12-11 00:00"]),
        ("0 0 13 * 5", &["Fri 2026-12-04 00:00", "Fri 2026-12-11 00:00", "Sun 2026-12-13 00:00"]),
        // One of them is not restricted: the other decides.
        ("0 0 13 * *", &["Sun 2026-12-13 00:00", "Wed 2027-01-13 00:00"]),
        ("0 0 ? * 5", &["Fri 2026-12-04 00:00"]),
        // As in Kubernetes, every second day is a restriction.
        (
            "0 0 */15 * 5",
            &["Tue 2026-12-01 00:00", "Fri 2026-12-04 00:00", "Fri 2026-12-11 00:00", "Wed 2026-12-16 00:00"],
        ),
        ("*/20 4 * * *", &["Fri 2026-11-27 04:20", "Fri 2026-11-27 04:40", "Sat 2026-11-28 04:00"]),
        ("5/20 4 * * *", &["Fri 2026-11-27 04:05", "Fri 2026-11-27 04:25", "Fri 2026-11-27 04:45"]),
        ("1,3-4 5 * * *", &["Fri 2026-11-27 05:01", "Fri 2026-11-27 05:03", "Fri 2026-11-27 05:04"]),
        ("0 22-23/1 * jan,Dec *", &["Tue 2026-12-01 22:00", "Tue 2026-12-01 23:00"]),
        ("0 0 29 2 *", &["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        ("0 0 31 * *", &["Thu 2026-12-31 00:00", "Sun 2027-01-31 00:00", "Wed 2027-03-31 00:00"]),
        ("30 4 1,15 * 5", &["Fri 2026-11-27 04:30", "Tue 2026-12-01 04:30", "Fri 2026-12-04 04:30"]),
    ];
    for (text, expected) in cases {
        assert_eq!(upcoming(text, from, expected.len()), *expected, "{text}");
    }
}

#[test]
fn what_is_no_line_says_why() {
    let cases = [
        ("0 9 * *", "it has 4 fields"),
        ("0 0 9 * * 1-5", "it has 6 fields"),
        ("@daily", "write out what `@…` stands for"),
        ("60 * * * *", "the minute `60` is no number from 0 to 59"),
        ("* 24 * * *", "the hour `24`"),
        ("* * 0 * *", "the day of month `0`"),
        ("* * * 13 *", "the month `13` is no number from 1 to 12 or a name"),
        ("* * * * 8", "the weekday `8`"),
        ("* * * * friday", "the weekday `friday`"),
        ("* * L * *", "the day of month `L`"),
        ("* * * * 5#2", "the weekday `5#2`"),
        ("5-1 * * * *", "the minute `5-1` ends before it begins"),
        ("*/0 * * * *", "the step `0` of the minute"),
        ("+5 * * * *", "the minute `+5`"),
        (", * * * *", "the minute ``"),
        ("0 0 30 2 *", "there is no such day"),
        ("0 0 31 4,6 *", "there is no such day"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<CronLine>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Whether a line of numbers and stars matches, worked out the plain way.
fn matches(text: &str, at: DateTime) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    let is_in = |field: &str, number: i8| {
        field.split(',').any(|item| item == "*" || item.parse::<i8>().is_ok_and(|found| found == number))
    };
    let weekday = at.weekday().to_sunday_zero_offset();
    let (day, weekday) = (is_in(fields[2], at.day()), is_in(fields[4], weekday));
    let days = if fields[2] != "*" && fields[4] != "*" { day || weekday } else { day && weekday };
    is_in(fields[0], at.minute()) && is_in(fields[1], at.hour()) && is_in(fields[3], at.month()) && days
}

#[test]
fn both_ways_find_what_counting_minutes_finds() {
    let lines =
        ["17 * * * *", "0,30 3,15 * * *", "5 4 13 * 5", "59 23 31 * *", "0 0 1,28 2,3 *", "0 12 * 11,12 0,6"];
    let start = date(2026, 11, 20).at(0, 0, 0, 0);
    for text in lines {
        let line = line(text);
        let all: Vec<DateTime> = (0..150 * 24 * 60)
            .map(|minute| start.saturating_add(i64::from(minute).minutes()))
            .filter(|at| matches(text, *at))
            .collect();
        assert!(all.len() > 2, "{text}");
        for pair in all.windows(2) {
            assert_eq!(line.after(pair[0]), Some(pair[1]), "{text}");
            assert_eq!(line.before(pair[1]), Some(pair[0]), "{text}");
            let between = pair[0].saturating_add(30.seconds());
            assert_eq!((line.before(between), line.after(between)), (Some(pair[0]), Some(pair[1])), "{text}");
        }
    }
}

fn window(kind: WindowKind, schedule: &str, zone: &str, minutes: u64) -> Window {
    Window::new(kind, schedule, Some(zone), Duration::from_secs(minutes * 60)).unwrap()
}

/// When the window is on, second by second around `from`, as ranges.
fn ranges(window: &Window, from: &str, hours: i64) -> Vec<String> {
    let start = at(from);
    let mut found = Vec::new();
    let mut since = None;
    for second in (0..=hours * 3600).step_by(60) {
        let now = start + SignedDuration::from_secs(second);
        match (window.is_on(now), since) {
            (true, None) => since = Some(now),
            (false, Some(begin)) => {
                found.push(format!("{begin}/{now}"));
                since = None;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_window_keeps_to_the_wall_clock_of_its_zone() {
    use WindowKind::Allow;
    // Berlin: +01:00 until 28 March 2027, 02:00 -> 03:00; back on 31 October 2027, 03:00 -> 02:00.
    let nine = window(Allow, "0 9 * * *", "Europe/Berlin", 60);
    assert_eq!(ranges(&nine, "2027-03-27T00:00:00Z", 24), ["2027-03-27T08:00:00Z/2027-03-27T09:00:00Z"]);
    assert_eq!(ranges(&nine, "2027-03-28T00:00:00Z", 24), ["2027-03-28T07:00:00Z/2027-03-28T08:00:00Z"]);
    // A beginning that the clock jumps over comes as much later as the clock jumped.
    let jumped = window(Allow, "30 2 * * *", "Europe/Berlin", 60);
    assert_eq!(ranges(&jumped, "2027-03-28T00:00:00Z", 12), ["2027-03-28T01:30:00Z/2027-03-28T02:30:00Z"]);
    // One that it shows twice comes once, the first time.
    assert_eq!(ranges(&jumped, "2027-10-31T00:00:00Z", 12), ["2027-10-31T00:30:00Z/2027-10-31T01:30:00Z"]);
    // A window over a jump lasts as long as any other.
    let night = window(Allow, "0 22 * * *", "Europe/Berlin", 8 * 60);
    assert_eq!(ranges(&night, "2027-03-27T12:00:00Z", 24), ["2027-03-27T21:00:00Z/2027-03-28T05:00:00Z"]);
    assert_eq!(ranges(&night, "2027-10-30T12:00:00Z", 24), ["2027-10-30T20:00:00Z/2027-10-31T04:00:00Z"]);
    // Half an hour, and two hours.
    let howe = window(Allow, "15 2 * * *", "Australia/Lord_Howe", 30);
    assert_eq!(ranges(&howe, "2027-10-02T12:00:00Z", 12), ["2027-10-02T15:45:00Z/2027-10-02T16:15:00Z"]);
    let troll = window(Allow, "30 1 * * *", "Antarctica/Troll", 30);
    assert_eq!(ranges(&troll, "2027-03-27T20:00:00Z", 12).len(), 1);
    let kathmandu = window(Allow, "0 0 * * *", "Asia/Kathmandu", 60);
    assert_eq!(ranges(&kathmandu, "2027-01-01T12:00:00Z", 12), ["2027-01-01T18:15:00Z/2027-01-01T19:15:00Z"]);
}

#[test]
fn edges_are_where_looking_every_minute_finds_them() {
    use WindowKind::Allow;
    let windows = [
        window(Allow, "*/30 1-3 * * *", "Europe/Berlin", 20),
        window(Allow, "30 2 * * 0", "Europe/Berlin", 120),
        window(Allow, "45 1 * * *", "America/New_York", 45),
        window(Allow, "10 2 * * *", "Australia/Lord_Howe", 40),
    ];
    for window in &windows {
        for start in [
            "2027-03-13T20:00:00Z",
            "2027-03-27T20:00:00Z",
            "2027-10-02T10:00:00Z",
            "2027-10-30T20:00:00Z",
            "2027-11-06T20:00:00Z",
        ] {
            let mut before = window.is_on(at(start));
            let mut expected = window.next_edge(at(start)).unwrap();
            for minute in 1..24 * 60 {
                let now = at(start) + SignedDuration::from_mins(minute);
                let is_on = window.is_on(now);
                if is_on != before {
                    assert!(now >= expected, "{window} changes at {now}, before {expected}");
                }
                if now >= expected {
                    expected = window.next_edge(now).unwrap();
                    assert!(expected > now);
                }
                before = is_on;
            }
        }
    }
}

fn closed(lists: &[&[Window]], now: &str) -> Option<(String, String)> {
    match standing(lists, at(now)) {
        Standing::Open => None,
        Standing::Closed { reason, until } => {
            Some((reason, until.map_or("never".to_owned(), |until| until.to_string())))
        }
    }
}

#[test]
fn lists_say_when_releases_may_begin() {
    use WindowKind::{Allow, Freeze};
    let office = window(Allow, "0 9 * * 1-5", "Europe/Berlin", 8 * 60);
    let lunch = window(Freeze, "0 12 * * *", "Europe/Berlin", 60);
    let weekend = window(Freeze, "0 18 * * 5", "Europe/Berlin", 63 * 60);
    let december = window(Freeze, "0 0 20 12 *", "UTC", 14 * 24 * 60);
    assert_eq!(closed(&[], "2026-11-27T04:00:00Z"), None);
    assert_eq!(
        closed(&[std::slice::from_ref(&weekend)], "2026-11-27T04:00:00Z"),
        None,
        "a freeze alone allows everything else"
    );
    let list: &[Window] = &[office.clone(), lunch.clone()];
    let told = |reason: &str, until: &str| Some((reason.to_owned(), until.to_owned()));
    let outside = "outside \"0 9 * * 1-5\" for 8h (Europe/Berlin)";
    assert_eq!(closed(&[list], "2026-11-27T04:00:00Z"), told(outside, "2026-11-27T08:00:00Z"));
    assert_eq!(closed(&[list], "2026-11-27T10:59:59Z"), None);
    let frozen = "frozen by \"0 12 * * *\" for 1h (Europe/Berlin)";
    assert_eq!(closed(&[list], "2026-11-27T11:00:00Z"), told(frozen, "2026-11-27T12:00:00Z"));
    assert_eq!(closed(&[list], "2026-11-27T16:00:00Z"), told(outside, "2026-11-30T08:00:00Z"));
    // Both lists have to be open: the end of one freeze lies in the next.
    let lists: &[&[Window]] = &[&[weekend, december.clone()], list];
    let frozen = "frozen by \"0 18 * * 5\" for 63h (Europe/Berlin)";
    assert_eq!(closed(lists, "2026-12-19T12:00:00Z"), told(frozen, "2027-01-04T08:00:00Z"));
    let frozen = "frozen by \"0 0 20 12 *\" for 336h (UTC)";
    assert_eq!(closed(lists, "2026-12-29T12:00:00Z"), told(frozen, "2027-01-04T08:00:00Z"));
    // Nothing opens: the two never meet.
    let day = window(Allow, "0 6 * * *", "UTC", 60);
    let night = window(Allow, "0 20 * * *", "UTC", 60);
    assert_eq!(closed(&[&[day], &[night]], "2026-11-27T04:00:00Z").unwrap().1, "never");
    let leap = window(Allow, "0 0 29 2 *", "UTC", 60);
    assert_eq!(closed(&[&[leap]], "2026-11-27T04:00:00Z").unwrap().1, "never", "not within a year");
}

#[test]
fn what_is_no_window_names_its_field() {
    let hour = Duration::from_secs(3600);
    let fields = [
        Window::new(WindowKind::Allow, "0 9 * *", None, hour),
        Window::new(WindowKind::Allow, "0 9 * * *", Some("Berlin"), hour),
        Window::new(WindowKind::Allow, "0 9 * * *", Some("../etc/passwd"), hour),
        Window::new(WindowKind::Allow, "0 9 * * *", None, Duration::from_secs(59)),
        Window::new(WindowKind::Allow, "0 9 * * *", None, Duration::from_secs(400 * 24 * 3600)),
    ];
    let fields = fields.map(|window| window.unwrap_err().field());
    assert_eq!(fields, ["schedule", "timeZone", "timeZone", "duration", "duration"]);
    let utc = Window::new(WindowKind::Freeze, "0 9 * * *", None, hour).unwrap();
    assert_eq!(utc.to_string(), "\"0 9 * * *\" for 1h (UTC)");
    assert!(
        TimeZone::get("Europe/Berlin").is_ok() || utc.is_on(at("2026-11-27T09:30:00Z")),
        "needs no database of the machine"
    );
}

#[test]
fn lines_that_match_every_minute_are_answered_at_once() {
    let always = window(WindowKind::Freeze, "* * * * *", "Europe/Berlin", 1);
    let begun = std::time::Instant::now();
    assert_eq!(closed(&[&[always]], "2027-03-28T00:30:00Z").unwrap().1, "never");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
