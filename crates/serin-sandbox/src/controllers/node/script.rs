//! How long a container's command takes and how it ends, as far as its words say. Pure.
//!
//! A small reading of what jobs and hooks in tests and examples say: `sleep`, `exit`, `true`, `false`, alone or in a shell's
//! `-c`, joined by `&&`, `||`, `;` and new lines. Every other program ends well at once.

use std::time::Duration;

/// Longest `sleep`; what sleeps longer sleeps for ever as far as anybody here is concerned.
const SLEEP_MAX: f64 = 365.0 * 24.0 * 3_600.0;
/// Shells whose `-c` is read.
const SHELLS: [&str; 4] = ["sh", "bash", "ash", "dash"];

/// How a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// From its start to its end.
    pub(super) takes: Duration,
    /// Its exit code.
    pub(super) code: i32,
}

/// Reads a command with its arguments.
pub(super) fn run(words: &[&str]) -> Run {
    let Some((program, arguments)) = words.split_first() else { return Run { takes: Duration::ZERO, code: 0 } };
    let name = program.rsplit('/').next().unwrap_or(program);
    if SHELLS.contains(&name) {
        let flags = |word: &&str| word.starts_with('-') && word.ends_with('c');
        return match arguments.iter().position(flags).and_then(|at| arguments.get(at + 1)) {
            Some(text) => script(text),
            None => Run { takes: Duration::ZERO, code: 0 },
        };
    }
    simple(name, arguments)
}

fn simple(name: &str, arguments: &[&str]) -> Run {
    let first = arguments.first().copied().unwrap_or_default();
    match name {
        "sleep" => Run { takes: seconds(first), code: 0 },
        "false" => Run { takes: Duration::ZERO, code: 1 },
        "exit" => Run { takes: Duration::ZERO, code: first.parse().unwrap_or(0) },
        _ => Run { takes: Duration::ZERO, code: 0 },
    }
}

/// `10`, `0.5`, `10s`, `2m`, `1h`, `infinity`, as coreutils reads it.
fn seconds(text: &str) -> Duration {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3_600.0),
        _ => (text, 1.0),
    };
    let wanted = if text.starts_with("inf") { SLEEP_MAX } else { number.parse().unwrap_or(0.0) * unit };
    Duration::try_from_secs_f64(wanted.clamp(0.0, SLEEP_MAX)).unwrap_or(Duration::ZERO)
}

/// Runs a script's commands in order; `exit` ends it.
fn script(text: &str) -> Run {
    let mut whole = Run { takes: Duration::ZERO, code: 0 };
    let mut rest = text;
    let mut joint = ";";
    loop {
        let (command, next, after) = cut(rest);
        let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
        let is_due = match joint {
            "&&" => whole.code == 0,
            "||" => whole.code != 0,
            _ => true,
        };
        if let (true, Some(program)) = (is_due, words.first()) {
            let one = run(&words);
            whole = Run { takes: whole.takes.saturating_add(one.takes), code: one.code };
            if *program == "exit" {
                return whole;
            }
        }
        let Some(next) = next else { return whole };
        (joint, rest) = (next, after);
    }
}

/// The first command of a script, what joins it to the rest, and the rest.
fn cut(text: &str) -> (&str, Option<&'static str>, &str) {
    const JOINTS: [&str; 4] = ["&&", "||", ";", "\n"];
    let first =
        JOINTS.iter().filter_map(|joint| text.find(joint).map(|at| (at, *joint))).min_by_key(|(at, _)| *at);
    match first {
        Some((at, joint)) => (&text[..at], Some(joint), &text[at + joint.len()..]),
        None => (text, None, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> (u64, i32) {
        let Run { takes, code } = run(words);
        (takes.as_secs(), code)
    }

    #[test]
    fn commands_take_their_time_and_end_as_they_say() {
        assert_eq!(of(&["sleep", "30"]), (30, 0));
        assert_eq!(of(&["/bin/sleep", "2m"]), (120, 0));
        assert_eq!(of(&["false"]), (0, 1));
        assert_eq!(of(&["sh", "-c", "sleep 5 && exit 3"]), (5, 3));
        assert_eq!(of(&["/bin/bash", "-ec", "echo hi; sleep 1\nsleep 2"]), (3, 0));
        assert_eq!(of(&["sh", "-c", "false && sleep 9"]), (0, 1));
        assert_eq!(of(&["sh", "-c", "false || sleep 9"]), (9, 0));
        assert_eq!(of(&["sh", "-c", "exit 1; sleep 9"]), (0, 1));
        assert_eq!(of(&["python", "app.py"]), (0, 0));
        assert_eq!(of(&[]), (0, 0));
        assert_eq!(of(&["sleep", "-5"]), (0, 0));
    }
}
