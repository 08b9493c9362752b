//! Open questions are asked here, concurrently and outside the loop. An answer is kept and wakes; it decides nothing.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cluster::Clock;
use crate::model::NamespacedName;
use crate::release::{Answer, Question, QuestionKey};

use super::places::Places;
use super::wakeups::Wakeups;

/// Metric queries at once over all who ask: enough for hundreds of targets with three checks each per interval, few
/// enough not to be an attack on the metric system.
const QUERIES: usize = 32;
/// Webhooks at once over all who ask, each a connection. Their own number, since acceptance tests take minutes and queries
/// must not wait; few enough for a process that may open 512 files.
const HOOKS: usize = 128;
/// Answers kept for each who asks: more than the checks and hooks of two ticks.
const KEPT: usize = 128;

/// What can be asked.
pub(super) trait Asked: Send + 'static {
    /// What tells it from all others.
    type Key: Clone + PartialEq + Send + 'static;
    /// What is found out.
    type Answer: Clone + Send + 'static;

    /// Its key.
    fn key(&self) -> Self::Key;
    /// The key of what an answer is about.
    fn key_of(answer: &Self::Answer) -> Self::Key;
    /// Whether it takes a webhook's place, and not a query's.
    fn is_hook(&self) -> bool;
}

impl Asked for Question {
    type Key = QuestionKey;
    type Answer = Answer;

    fn key(&self) -> QuestionKey {
        Self::key(self)
    }

    fn key_of(answer: &Answer) -> QuestionKey {
        answer.key()
    }

    fn is_hook(&self) -> bool {
        matches!(self, Self::Hook { .. })
    }
}

/// Answers of all who ask: Canaries, or AnalysisRuns.
pub(super) struct Answers<Q: Asked> {
    inner: Mutex<HashMap<NamespacedName, OfAsker<Q>>>,
    queries: Places,
    hooks: Places,
    wakeups: Arc<Wakeups>,
    clock: Clock,
    shutdown: CancellationToken,
}

struct OfAsker<Q: Asked> {
    /// Uid of who asked: one of the same name later starts afresh.
    uid: String,
    asking_since: Timestamp,
    /// Asked and not answered.
    pending: Vec<Q::Key>,
    answered: VecDeque<Q::Answer>,
}

impl<Q: Asked> Answers<Q> {
    /// No answers yet; tasks end with `shutdown`.
    pub(super) fn new(wakeups: Arc<Wakeups>, clock: Clock, shutdown: CancellationToken) -> Self {
        let (queries, hooks) = (Places::new(QUERIES), Places::new(HOOKS));
        Self { inner: Mutex::default(), queries, hooks, wakeups, clock, shutdown }
    }

    /// What was answered so far, and since when this process has been asking for this one.
    pub(super) fn of(&self, asker: &NamespacedName, uid: &str) -> (Vec<Q::Answer>, Timestamp) {
        let now = self.clock.now();
        self.with(asker, uid, |of| {
            // The clock may have been set back.
            of.asking_since = of.asking_since.min(now);
            (of.answered.iter().cloned().collect(), of.asking_since)
        })
    }

    /// Asks what has not been asked yet. What `find_out` does not find out (the lease was not held) is open again, with all
    /// the time that an answer may take.
    pub(super) fn ask<F, T>(self: &Arc<Self>, asker: &NamespacedName, uid: &str, open: Vec<Q>, find_out: F)
    where
        F: Fn(Q) -> T,
        T: Future<Output = Option<Q::Answer>> + Send + 'static,
    {
        for question in open {
            let key = question.key();
            let new = self.with(asker, uid, |of| of.start(key.clone()));
            if !new {
                continue;
            }
            let is_hook = question.is_hook();
            let asking = find_out(question);
            let (answers, asker, uid) = (self.clone(), asker.clone(), uid.to_owned());
            tokio::spawn(async move {
                let shutdown = answers.shutdown.clone();
                let answer = tokio::select! {
                    () = shutdown.cancelled() => return,
                    answer = answers.permitted(&asker.namespace, is_hook, asking) => answer,
                };
                let at = answers.clock.now();
                answers.with(&asker, &uid, |of| match answer {
                    Some(answer) => of.finish(answer),
                    None => of.reopen(&key, at),
                });
                answers.wakeups.wake(&asker);
            });
        }
    }

    async fn permitted<T>(&self, namespace: &str, is_hook: bool, asking: impl Future<Output = T>) -> T {
        let places = if is_hook { &self.hooks } else { &self.queries };
        let _place = places.take(namespace).await;
        asking.await
    }

    /// It is gone, or asks no more.
    pub(super) fn forget(&self, asker: &NamespacedName) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(asker);
    }

    fn with<T>(&self, asker: &NamespacedName, uid: &str, change: impl FnOnce(&mut OfAsker<Q>) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || OfAsker {
            uid: uid.to_owned(),
            asking_since: self.clock.now(),
            pending: Vec::new(),
            answered: VecDeque::new(),
        };
        let of = inner.entry(asker.clone()).or_insert_with(fresh);
        if of.uid != uid {
            *of = fresh();
        }
        change(of)
    }
}

impl<Q: Asked> OfAsker<Q> {
    /// Whether the question is new.
    fn start(&mut self, key: Q::Key) -> bool {
        let known = self.pending.contains(&key) || self.answered.iter().any(|answer| Q::key_of(answer) == key);
        if !known {
            self.pending.push(key);
        }
        !known
    }

    /// The question is asked anew by whoever looks next, as if this process had just started to ask.
    fn reopen(&mut self, key: &Q::Key, now: Timestamp) {
        self.pending.retain(|pending| pending != key);
        self.asking_since = self.asking_since.max(now);
    }

    fn finish(&mut self, answer: Q::Answer) {
        let answered = Q::key_of(&answer);
        self.pending.retain(|key| *key != answered);
        if self.answered.len() >= KEPT {
            self.answered.pop_front();
        }
        self.answered.push_back(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::model::{Digest, ReleaseId};
    use crate::release::{Counter, Tick};

    use super::*;

    fn question(number: u32) -> Question {
        let release = ReleaseId::new(1, &Digest::of_canonical(b"x"));
        Question::Providers { key: Tick { release, of: Counter::Steps, number }, checks: Vec::new() }
    }

    #[tokio::test]
    async fn a_question_is_asked_once_and_its_answer_wakes() {
        let wakeups = Arc::new(Wakeups::default());
        let answers = Arc::new(Answers::new(wakeups.clone(), Clock::System, CancellationToken::new()));
        let canary = NamespacedName::new("test", "podinfo");
        let asked = Arc::new(AtomicU32::new(0));
        let ask = |uid: &str, tick: u32| {
            let asked = asked.clone();
            answers.ask(&canary, uid, vec![question(tick), question(tick)], move |question| {
                asked.fetch_add(1, Ordering::Relaxed);
                let Question::Providers { key, .. } = question else { panic!("asked something else") };
                async { Some(Answer::Providers(key, Ok(()))) }
            });
        };
        ask("u1", 1);
        wakeups.rung().await;
        assert_eq!(wakeups.take(), [canary.clone()].into());
        ask("u1", 1);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(answers.of(&canary, "u1").0.len(), 1);
        assert_eq!(answers.of(&canary, "u2").0, [], "a Canary made anew starts afresh");
    }

    #[tokio::test]
    async fn a_question_that_the_lease_ended_is_open_again_and_has_its_whole_time() {
        let wakeups = Arc::new(Wakeups::default());
        let clock = Clock::following("2026-01-01T00:00:00Z".parse().unwrap());
        let answers = Arc::new(Answers::new(wakeups.clone(), clock, CancellationToken::new()));
        let canary = NamespacedName::new("test", "podinfo");
        let (_, first) = answers.of(&canary, "u1");
        for round in 0..2 {
            answers.ask(&canary, "u1", vec![question(1)], |_| async { None });
            wakeups.rung().await;
            assert_eq!(wakeups.take(), [canary.clone()].into(), "asked in round {round}");
        }
        let (answered, since) = answers.of(&canary, "u1");
        assert_eq!(answered, []);
        assert!(since > first);
    }
}
