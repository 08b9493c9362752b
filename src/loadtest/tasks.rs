//! Background commands: at most one for each canary and command.
//!
//! A load test is asked for once a round and lasts a round, so it ends about when it is asked for again. One that is asked for
//! while it is about to end goes on: otherwise every other round would find nobody who loads anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Background commands at once: one load test for each of that many canaries loads a machine fully.
const RUNNING_MAX: usize = 64;
/// The part of its time, as a divisor, in which a command is about to end: more than rounds and clocks are apart, and so little
/// that no load goes on for long after the last round.
const ABOUT_TO_END: u32 = 5;

type Key = (String, String);

#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<BTreeMap<Key, Running>>>);

/// A command that runs.
#[derive(Debug)]
struct Running {
    /// When it is about to end, if that is known.
    ending: Option<Instant>,
    /// It was asked for again since.
    again: bool,
}

impl Running {
    fn new(lasts: Option<Duration>) -> Self {
        let ending = lasts.map(|lasts| Instant::now() + (lasts - lasts / ABOUT_TO_END));
        Self { ending, again: false }
    }
}

/// What became of an attempt to start.
#[derive(Debug)]
pub(super) enum Start {
    /// Go ahead; the slot is free again when the permit is dropped.
    Go(Permit),
    /// The same command already runs for this canary.
    Running,
    /// Too many commands run.
    Full,
}

/// The right to run one command.
#[derive(Debug)]
pub(super) struct Permit {
    tasks: Tasks,
    key: Key,
    lasts: Option<Duration>,
}

impl Tasks {
    /// `lasts`: how long the command runs, if it says so.
    pub(super) fn start(&self, canary: String, command: String, lasts: Option<Duration>) -> Start {
        let key = (canary, command);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = all.get_mut(&key) {
            running.again |= running.ending.is_some_and(|ending| ending <= Instant::now());
            return Start::Running;
        }
        if all.len() >= RUNNING_MAX {
            return Start::Full;
        }
        all.insert(key.clone(), Running::new(lasts));
        Start::Go(Permit { tasks: self.clone(), key, lasts })
    }
}

impl Permit {
    /// The command has ended: whether it is to run once more.
    pub(super) fn again(&self) -> bool {
        let mut all = self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = all.get(&self.key).is_some_and(|running| running.again);
        if again {
            all.insert(self.key.clone(), Running::new(self.lasts));
        }
        again
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tasks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(tasks: &Tasks, lasts: Option<u64>) -> Start {
        tasks.start("podinfo.test".to_owned(), "hey".to_owned(), lasts.map(Duration::from_secs))
    }

    fn started(tasks: &Tasks, lasts: Option<u64>) -> Permit {
        match start(tasks, lasts) {
            Start::Go(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_test_that_is_asked_for_at_its_end_goes_on_and_not_for_longer_than_that() {
        let tasks = Tasks::default();
        let permit = started(&tasks, Some(60));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(matches!(start(&tasks, Some(60)), Start::Running));
        assert!(!permit.again(), "it was asked for in the middle: it covers that round itself");
        for _round in 0..3 {
            tokio::time::advance(Duration::from_millis(59_990)).await;
            assert!(matches!(start(&tasks, Some(60)), Start::Running));
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(permit.again());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!permit.again(), "nobody asked");
        drop(permit);
        drop(started(&tasks, Some(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_say_how_long_it_takes_runs_once_for_each_time_that_it_is_asked_for() {
        let tasks = Tasks::default();
        let permit = started(&tasks, None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(start(&tasks, None), Start::Running));
        assert!(!permit.again());
    }
}
