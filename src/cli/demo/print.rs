//! The demo's screen: a transcript, and on a terminal one live line below it.

use std::collections::BTreeSet;
use std::io::{IsTerminal, stdout};
use std::sync::Mutex;
use std::time::Instant;

use crate::analysis::Verdict;
use crate::cli::output::{self, Paint};
use crate::cli::screen;
use crate::release::{CheckResult, EventType};

use super::event::{Compared, DemoEvent, Played, Shown, Timed, Withdrawn};

/// Cells of the weight bar.
const BAR_CELLS: usize = 20;
/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;
/// What Flagger's words for a side that is not ready have in common; the side's name stands before.
const NOT_READY: &str = " not ready: ";
/// How Events begin that say what the line of checks before them shows: the next weight, a check that failed.
const SHOWN: [&str; 2] = ["Advance ", "Halt "];
/// Returns to the line's start and clears it.
const CLEAR_LINE: &str = "\r\u{1b}[2K";

/// Prints events in the order in which they happen.
pub(super) struct Printer {
    began: Instant,
    json: bool,
    colours: bool,
    live: bool,
    verbose: bool,
    /// Serialises printing.
    screen: Mutex<Screen>,
}

#[derive(Default)]
struct Screen {
    /// A live line is below the transcript.
    live_line: bool,
    /// Workloads that were said not to be ready since the last push or phase.
    unready: BTreeSet<String>,
}

impl Printer {
    pub(super) fn new(json: bool, verbose: bool) -> Self {
        let colours = output::colours();
        Self {
            began: Instant::now(),
            json,
            colours,
            live: !json && stdout().is_terminal() && colours,
            verbose,
            screen: Mutex::default(),
        }
    }

    /// Prints one event. A closed pipe ends the printing, not the demo.
    pub(super) fn event(&self, event: DemoEvent) {
        let timed = Timed { seconds: (self.began.elapsed().as_millis() as f64) / 1000.0, event };
        let mut screen = self.screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.json {
            match serde_json::to_string(&timed) {
                Ok(json) => output::data(&format!("{json}\n")).unwrap_or_default(),
                Err(error) => output::message(&format!("failed to print an event: {error}")),
            }
            return;
        }
        let live = match &timed.event {
            DemoEvent::Waiting { phase, weight, waiting_on } => Some(self.status_line(phase, *weight, waiting_on)),
            event if self.is_repetition(event, &mut screen) => return,
            _ => None,
        };
        if live.is_some() && !self.live {
            return;
        }
        let clear = if std::mem::replace(&mut screen.live_line, live.is_some()) { CLEAR_LINE } else { "" };
        let text = live.unwrap_or_else(|| self.render(&timed));
        output::data(&format!("{clear}{text}")).ok();
    }

    /// A side becomes ready in many small steps, each an Event. People see them in the live line, and without one the first.
    fn is_repetition(&self, event: &DemoEvent, screen: &mut Screen) -> bool {
        match event {
            DemoEvent::Pushed { .. } | DemoEvent::Phase { .. } => {
                screen.unready.clear();
                false
            }
            DemoEvent::Message { message, .. }
                if !self.verbose && SHOWN.iter().any(|word| message.starts_with(word)) =>
            {
                true
            }
            DemoEvent::Message { kind: EventType::Warning, message } => match message.split_once(NOT_READY) {
                Some((workload, _)) => self.live || !screen.unready.insert(workload.to_owned()),
                None => false,
            },
            DemoEvent::Started { .. }
            | DemoEvent::Scenario { .. }
            | DemoEvent::Committed { .. }
            | DemoEvent::Message { kind: EventType::Normal, .. }
            | DemoEvent::Checks { .. }
            | DemoEvent::Waiting { .. }
            | DemoEvent::Compared(_)
            | DemoEvent::Users { .. }
            | DemoEvent::Expected { .. }
            | DemoEvent::Ended { .. }
            | DemoEvent::Finished { .. } => false,
        }
    }

    fn status_line(&self, phase: &str, weight: i64, waiting_on: &str) -> String {
        let line = format!("         {phase} {} waits for {waiting_on}", bar(weight));
        // One row only: a wrapped line could not be cleared.
        let columns = screen::size().map_or(COLUMNS, |size| size.columns);
        let line = screen::cut(&line, columns.saturating_sub(1));
        Paint::Dim.apply(&line, self.colours)
    }

    fn render(&self, timed: &Timed) -> String {
        let on = self.colours;
        let at = Paint::Dim.apply(&format!("{:7.1}s", timed.seconds), on);
        match &timed.event {
            DemoEvent::Started { dir, kubeconfig, repository, ingress, metrics, speed } => format!(
                "An embedded cluster, a Git repository and the daemon, in one process; time runs {speed} times faster.\n  \
                 folder      {dir}\n  kubeconfig  {kubeconfig}\n  repository  {repository}\n  ingress     {ingress}\n  \
                 metrics     {metrics}\n"
            ),
            DemoEvent::Scenario { name: _, title } => format!("\n{}\n", Paint::Bold.apply(title, on)),
            DemoEvent::Pushed { commit, subject } => {
                format!("{at}  {} {} {subject}\n", Paint::Bold.apply("git push", on), short(commit))
            }
            DemoEvent::Committed { branch, commit, subject, shown } => {
                let head = Paint::Bold.apply("serin commits", on);
                let shown = shown.as_ref().map(|shown| self.shown(shown)).unwrap_or_default();
                format!("{at}  {head} {} {branch}: {subject}\n{shown}", short(commit))
            }
            DemoEvent::Message { kind, message } => match kind {
                EventType::Normal => format!("{at}  {message}\n"),
                EventType::Warning => format!("{at}  {}\n", Paint::Yellow.apply(message, on)),
            },
            DemoEvent::Checks { weight, failed_checks, threshold, checks } => {
                let mut cells: Vec<String> = checks.iter().map(|check| self.check(check)).collect();
                cells.push(format!("failed {failed_checks}/{threshold}"));
                let columns = screen::size().map_or(usize::MAX, |size| size.columns);
                format!("{at}  {}\n", wrapped(&bar(*weight), &cells, columns))
            }
            DemoEvent::Phase { phase, weight: _ } => {
                let colour = match phase.as_str() {
                    "Failed" => Paint::Red,
                    "Succeeded" | "Initialized" => Paint::Green,
                    _ => Paint::Bold,
                };
                format!("{at}  {}\n", colour.apply(phase, on))
            }
            DemoEvent::Waiting { .. } => String::new(),
            DemoEvent::Compared(compared) => told(compared),
            DemoEvent::Users { asked, failed } => {
                format!("          your users saw {failed} of {asked} requests fail\n")
            }
            DemoEvent::Expected { what, ok, found } => {
                if *ok {
                    format!("          {} {what}\n", Paint::Green.apply("✓", on))
                } else {
                    format!("          {} {what}; found {found}\n", Paint::Red.apply("✗", on))
                }
            }
            DemoEvent::Ended { name, ok, seconds } => {
                let (word, colour) =
                    if *ok { ("ended as it should", Paint::Green) } else { ("FAILED", Paint::Red) };
                format!("{at}  {} after {seconds:.1} s\n", colour.apply(&format!("{name} {word}"), on))
            }
            DemoEvent::Finished { ok, played, hints } => {
                let head = if *ok {
                    "Every scenario ended as it should."
                } else {
                    "A scenario did not end as it should."
                };
                let hints: String = hints.iter().map(|hint| format!("  {hint}\n")).collect();
                format!("\n{head}\n{}\n{hints}", table(played))
            }
        }
    }

    /// A commit's message and patch, indented as the transcript is.
    fn shown(&self, shown: &Shown) -> String {
        let Shown { body, patch } = shown;
        let line = |line: &str| {
            let painted = match line.chars().next() {
                Some('+') => Paint::Green.apply(line, self.colours),
                Some('-') => Paint::Red.apply(line, self.colours),
                _ => Paint::Dim.apply(line, self.colours),
            };
            format!("            {painted}\n")
        };
        let body = body.lines().map(|line| format!("            {line}\n"));
        body.chain(["\n".to_owned()]).chain(patch.lines().map(line)).collect()
    }

    fn check(&self, result: &CheckResult) -> String {
        let CheckResult { name, verdict, value, limit } = result;
        let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.1}"));
        let text = format!("{name} {value} ({limit})");
        match verdict {
            Verdict::Pass => text,
            Verdict::Fail => Paint::Red.apply(&text, self.colours),
            Verdict::NoData
            | Verdict::Early
            | Verdict::Few
            | Verdict::Error
            | Verdict::Several
            | Verdict::Misconfigured
            | Verdict::Inconclusive => Paint::Yellow.apply(&format!("{text}: {}", verdict.as_str()), self.colours),
        }
    }
}

/// What was played, a line each.
fn table(played: &[Played]) -> String {
    let line = |Played { name, ok, seconds, asked, failed }: &Played| {
        let mark = if *ok { "✓" } else { "✗" };
        format!("  {mark} {name:<10} {seconds:>5.1} s   {failed:>3} of {asked} requests of users failed\n")
    };
    played.iter().map(line).collect()
}

/// Cells behind the transcript's time, on as many lines as a terminal of this width needs.
fn wrapped(head: &str, cells: &[String], columns: usize) -> String {
    /// Time and blanks before the text.
    const INDENT: usize = 10;
    let mut out = head.to_owned();
    let mut used = INDENT + width(head);
    for (index, cell) in cells.iter().enumerate() {
        let gap = if index == 0 { " " } else { "  " };
        if used + gap.len() + width(cell) > columns {
            out.push_str(&format!("\n{}{cell}", " ".repeat(INDENT)));
            used = INDENT + width(cell);
        } else {
            out.push_str(gap);
            out.push_str(cell);
            used += gap.len() + width(cell);
        }
    }
    out
}

/// Columns that a text takes, colours not counted.
fn width(text: &str) -> usize {
    let mut parts = text.split('\u{1b}');
    let plain = parts.next().unwrap_or("").chars().count();
    plain + parts.map(|part| part.split_once('m').map_or(0, |(_, shown)| shown.chars().count())).sum::<usize>()
}

fn bar(weight: i64) -> String {
    let filled = usize::try_from(weight.clamp(0, 100)).unwrap_or(0) * BAR_CELLS / 100;
    format!("│{}{}│{weight:>3} %", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

fn told(compared: &Compared) -> String {
    let Compared { requests_per_second, interval, sample_step, fixed, comparison, ratio } = compared;
    let line = |name: &str, Withdrawn { failed_requests, seconds }: &Withdrawn| {
        format!("          {name:<24} {failed_requests:>5} failed requests, back at 0 % after {seconds:.1} s\n")
    };
    format!(
        "          {requests_per_second} requests a second, a check every {interval} s, a sample every {sample_step} s:\n{}{}\
        \u{20}         {ratio:.2} of the fixed limits' failed requests\n",
        line("fixed limits", fixed),
        line("comparison with primary", comparison)
    )
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_said_not_to_be_ready_once_a_phase() {
        let printer = Printer {
            began: Instant::now(),
            json: false,
            colours: false,
            live: false,
            verbose: false,
            screen: Mutex::default(),
        };
        let mut screen = Screen::default();
        let unready = |workload: &str| DemoEvent::Message {
            kind: EventType::Warning,
            message: format!("{workload} not ready: waiting for rollout to finish"),
        };
        let mut skipped = |event: &DemoEvent| printer.is_repetition(event, &mut screen);
        assert!(!skipped(&unready("a")));
        assert!(skipped(&unready("a")));
        assert!(!skipped(&unready("b")));
        assert!(!skipped(&DemoEvent::Phase { phase: "Promoting".into(), weight: 50 }));
        assert!(!skipped(&unready("a")));
    }

    #[test]
    fn checks_go_on_on_the_next_line_of_a_narrow_terminal() {
        let cells =
            ["first 1.0 (≥ 99)".to_owned(), Paint::Red.apply("second 2.0 (≤ 5)", true), "failed 1/5".into()];
        assert_eq!(wrapped("bar", &cells, usize::MAX).lines().count(), 1);
        let narrow = wrapped("bar", &cells, 50);
        let widths: Vec<usize> = format!("{}{narrow}", " ".repeat(10)).lines().map(width).collect();
        assert_eq!(widths, [10 + 3 + 1 + 16 + 2 + 16, 10 + 10], "{narrow}");
    }

    #[test]
    fn the_bar_is_as_long_as_the_weight() {
        assert_eq!(bar(50), "│██████████░░░░░░░░░░│ 50 %");
        assert_eq!(bar(0).matches('█').count(), 0);
    }
}
