//! The demo's screen: a transcript, and on a terminal one live line below it.

use std::io::{IsTerminal, stdout};
use std::sync::Mutex;
use std::time::Instant;

use crate::analysis::Verdict;
use crate::cli::output::{self, Paint};
use crate::release::{CheckResult, EventType};

use super::event::{DemoEvent, Timed};

/// Cells of the weight bar.
const BAR_CELLS: usize = 20;
/// Returns to the line's start and clears it.
const CLEAR_LINE: &str = "\r\u{1b}[2K";

/// Prints events in the order in which they happen.
pub(super) struct Printer {
    began: Instant,
    json: bool,
    colours: bool,
    live: bool,
    /// Serialises printing; holds whether a live line is on the screen.
    line: Mutex<bool>,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        let colours = output::colours();
        Self {
            began: Instant::now(),
            json,
            colours,
            live: !json && stdout().is_terminal() && colours,
            line: Mutex::new(false),
        }
    }

    /// Prints one event. A closed pipe ends the printing, not the demo.
    pub(super) fn event(&self, event: DemoEvent) {
        let timed = Timed { seconds: (self.began.elapsed().as_millis() as f64) / 1000.0, event };
        let mut live_line = self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        if *live_line {
            text.push_str(CLEAR_LINE);
            *live_line = false;
        }
        if self.json {
            match serde_json::to_string(&timed) {
                Ok(json) => text.push_str(&(json + "\n")),
                Err(error) => output::message(&format!("failed to print an event: {error}")),
            }
        } else if let DemoEvent::Waiting { phase, weight, waiting_on } = &timed.event {
            if !self.live {
                return;
            }
            text.push_str(&self.status_line(phase, *weight, waiting_on));
            *live_line = true;
        } else {
            text.push_str(&self.render(&timed));
        }
        output::data(&text).ok();
    }

    fn status_line(&self, phase: &str, weight: i64, waiting_on: &str) -> String {
        let line = format!("         {phase} {} waits for {waiting_on}", bar(weight));
        // One row only: a wrapped line could not be cleared.
        let line: String = line.chars().take(terminal_columns().saturating_sub(1)).collect();
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
            DemoEvent::Committed { branch, commit, subject } => {
                format!("{at}  {} {} {branch}: {subject}\n", Paint::Bold.apply("serin commits", on), short(commit))
            }
            DemoEvent::Message { kind, message } => match kind {
                EventType::Normal => format!("{at}  {message}\n"),
                EventType::Warning => format!("{at}  {}\n", Paint::Yellow.apply(message, on)),
            },
            DemoEvent::Checks { weight, failed_checks, threshold, checks } => {
                let checks: Vec<String> = checks.iter().map(|check| self.check(check)).collect();
                let failed = format!("failed {failed_checks}/{threshold}");
                format!("{at}  {} {}  {failed}\n", bar(*weight), checks.join("  "))
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
            DemoEvent::Users { asked, failed } => {
                format!("          users asked {asked} times, {failed} requests failed\n")
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
            DemoEvent::Finished { ok, hints } => {
                let head = if *ok {
                    "Every scenario ended as it should."
                } else {
                    "A scenario did not end as it should."
                };
                let hints: String = hints.iter().map(|hint| format!("  {hint}\n")).collect();
                format!("\n{head}\n{hints}")
            }
        }
    }

    fn check(&self, result: &CheckResult) -> String {
        let CheckResult { name, verdict, value, limit } = result;
        let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.1}"));
        let text = format!("{name} {value} ({limit})");
        match verdict {
            Verdict::Pass => text,
            Verdict::Fail => Paint::Red.apply(&text, self.colours),
            Verdict::NoData | Verdict::Error | Verdict::Inconclusive => {
                Paint::Yellow.apply(&format!("{text}: {}", verdict.as_str()), self.colours)
            }
        }
    }
}

fn bar(weight: i64) -> String {
    let filled = usize::try_from(weight.clamp(0, 100)).unwrap_or(0) * BAR_CELLS / 100;
    format!("│{}{}│{weight:>3} %", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// Columns of the terminal as the shell says; 80 where it does not.
fn terminal_columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_as_the_weight() {
        assert_eq!(bar(50), "│██████████░░░░░░░░░░│ 50 %");
        assert_eq!(bar(0).matches('█').count(), 0);
    }
}
