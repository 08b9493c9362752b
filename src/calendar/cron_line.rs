//! A five-field cron line, as the standard and Kubernetes' CronJob read it.
//!
//! The `cron` crate finds the moments. It wants seconds first, counts weekdays from 1, and takes a day only if day of month
//! *and* weekday agree; so every field is worked out to a list of numbers here, and where both kinds of days are restricted a
//! line becomes two schedules, of which either may match.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use cron::Schedule;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Months by name, January first.
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Weekdays by name, Sunday first.
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Longest line: every number of every field is shorter.
const LENGTH_MAX: usize = 1024;

/// A line that cannot be used, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no cron line: {reason}")]
pub struct CronError {
    text: String,
    reason: String,
}

/// When something begins, by the wall clock: minute, hour, day of month, month, weekday.
#[derive(Debug, Clone)]
pub struct CronLine {
    text: String,
    /// One, or two of which either may match.
    schedules: Vec<Schedule>,
}

impl PartialEq for CronLine {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for CronLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for CronLine {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let error = |reason: String| CronError { text: text.chars().take(80).collect(), reason };
        if text.len() > LENGTH_MAX {
            return Err(error(format!("it is longer than {LENGTH_MAX} bytes")));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let hint = if text.starts_with('@') { "; write out what `@…` stands for" } else { "" };
            return Err(error(format!(
                "it has {} fields, not the five minute, hour, day of month, month, weekday{hint}",
                fields.len()
            )));
        };
        let minute = MINUTE.read(minute).map_err(error)?;
        let hour = HOUR.read(hour).map_err(error)?;
        let day = DAY.read(day).map_err(error)?;
        let month = MONTH.read(month).map_err(error)?;
        let weekday = WEEKDAY.read(weekday).map_err(error)?;
        let schedule = |day: &str, weekday: &str| {
            let line = format!("0 {} {} {day} {} {weekday}", minute.list, hour.list, month.list);
            Schedule::from_str(&line).map_err(|fault| error(fault.to_string()))
        };
        let schedules = match (day.is_restricted, weekday.is_restricted) {
            (true, true) => vec![schedule(&day.list, "*")?, schedule("*", &weekday.list)?],
            _ => vec![schedule(&day.list, &weekday.list)?],
        };
        let line = Self { text: fields.join(" "), schedules };
        match line.after(DateTime::constant(2024, 1, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(line),
            None => Err(error("there is no such day".to_owned())),
        }
    }
}

impl CronLine {
    /// The first moment later than `at`.
    pub(super) fn after(&self, at: DateTime) -> Option<DateTime> {
        let at = to_chrono(at)?;
        let next = self.schedules.iter().filter_map(|schedule| schedule.after(&at).next());
        next.min().and_then(from_chrono)
    }

    /// The last moment earlier than `at`.
    pub(super) fn before(&self, at: DateTime) -> Option<DateTime> {
        let at = to_chrono(at)?;
        let last = self.schedules.iter().filter_map(|schedule| schedule.after(&at).next_back());
        last.max().and_then(from_chrono)
    }
}

/// The wall clock, counted as if it were UTC: whole seconds.
fn to_chrono(at: DateTime) -> Option<chrono::DateTime<chrono::Utc>> {
    let second = TimeZone::UTC.to_timestamp(at).ok()?.as_second();
    chrono::DateTime::from_timestamp(second, 0)
}

fn from_chrono(at: chrono::DateTime<chrono::Utc>) -> Option<DateTime> {
    let at = jiff::Timestamp::from_second(at.timestamp()).ok()?;
    Some(TimeZone::UTC.to_datetime(at))
}

/// What a field may hold.
struct Field {
    name: &'static str,
    range: RangeInclusive<u8>,
    words: &'static [&'static str],
    /// The number of the first word.
    first: u8,
    /// What the `cron` crate counts more.
    shift: u8,
}

const MINUTE: Field = Field { name: "minute", range: 0..=59, words: &[], first: 0, shift: 0 };
const HOUR: Field = Field { name: "hour", range: 0..=23, words: &[], first: 0, shift: 0 };
const DAY: Field = Field { name: "day of month", range: 1..=31, words: &[], first: 0, shift: 0 };
const MONTH: Field = Field { name: "month", range: 1..=12, words: MONTHS, first: 1, shift: 0 };
/// Sunday is 0, and 7, too.
const WEEKDAY: Field = Field { name: "weekday", range: 0..=7, words: WEEKDAYS, first: 0, shift: 1 };

/// A field that was read.
struct Numbers {
    /// As the `cron` crate takes it.
    list: String,
    /// Whether it leaves anything out: `*` does not, `*/2` does.
    is_restricted: bool,
}

impl Field {
    fn read(&self, text: &str) -> Result<Numbers, String> {
        let mut found = [false; 60];
        let mut is_restricted = true;
        for item in text.split(',') {
            let (numbers, step) = match item.split_once('/') {
                None => (item, 1),
                Some((numbers, step)) => (numbers, self.step(step)?),
            };
            let is_open = numbers == "*" || numbers == "?";
            is_restricted &= !(is_open && step == 1);
            let range = match numbers.split_once('-') {
                _ if is_open => self.range.clone(),
                Some((from, to)) => self.number(from)?..=self.number(to)?,
                // `5/10` goes on to the end, as `5-59/10` does.
                None if item.contains('/') => self.number(numbers)?..=*self.range.end(),
                None => self.number(numbers)?..=self.number(numbers)?,
            };
            if range.is_empty() {
                return Err(format!("the {} `{item}` ends before it begins", self.name));
            }
            for number in range.step_by(usize::from(step)) {
                found[usize::from(self.folded(number))] = true;
            }
        }
        let numbers = (0..60_u8).filter(|number| found[usize::from(*number)]);
        let list: Vec<String> = numbers.map(|number| (number + self.shift).to_string()).collect();
        let list = if is_restricted { list.join(",") } else { "*".to_owned() };
        Ok(Numbers { list, is_restricted })
    }

    /// Sunday has two numbers.
    fn folded(&self, number: u8) -> u8 {
        if self.shift == 1 && number == 7 { 0 } else { number }
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        text.parse().ok().filter(|step| *step > 0).ok_or_else(|| {
            format!("the step `{text}` of the {} is no number from 1 to {}", self.name, self.range.end())
        })
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        let named = word.and_then(|place| u8::try_from(place).ok()).map(|place| place + self.first);
        let digits = || text.parse().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
        named.or_else(digits).filter(|number| self.range.contains(number)).ok_or_else(|| {
            let words = if self.words.is_empty() { "" } else { " or a name of three letters" };
            format!(
                "the {} `{text}` is no number from {} to {}{words}",
                self.name,
                self.range.start(),
                self.range.end()
            )
        })
    }
}
