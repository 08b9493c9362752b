//! Open questions are asked here, concurrently and outside the loop. An answer is kept and wakes; it decides nothing.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cluster::Clock;
use crate::model::NamespacedName;
use crate::release::{self, Answer, Question, QuestionKey};

use super::wakeups::Wakeups;

/// Metric queries at once over all Canaries: enough for hundreds of targets with three checks each per interval, few
/// enough not to be an attack on the metric system.
const QUERIES: usize = 32;
/// Webhooks at once over all Canaries. Their own number, since acceptance tests take minutes and queries must not wait.
const HOOKS: usize = 64;
/// Answers kept per Canary: more than the checks and hooks of two ticks.
const KEPT: usize = 128;

/// Answers of all Canaries.
pub(super) struct Answers {
    inner: Mutex<HashMap<NamespacedName, OfCanary>>,
    queries: Semaphore,
    hooks: Semaphore,
    wakeups: Arc<Wakeups>,
    clock: Clock,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct OfCanary {
    /// Uid of the Canary that asked: one of the same name later starts afresh.
    uid: String,
    asking_since: Timestamp,
    /// Asked and not answered.
    pending: Vec<QuestionKey>,
    answered: VecDeque<Answer>,
}

impl Answers {
    /// No answers yet; tasks end with `shutdown`.
    pub(super) fn new(wakeups: Arc<Wakeups>, clock: Clock, shutdown: CancellationToken) -> Self {
        let (queries, hooks) = (Semaphore::new(QUERIES), Semaphore::new(HOOKS));
        Self { inner: Mutex::default(), queries, hooks, wakeups, clock, shutdown }
    }

    /// What was answered so far, and since when this process has been asking for this Canary.
    pub(super) fn of(&self, canary: &NamespacedName, uid: &str) -> (release::Answers, Timestamp) {
        self.with(canary, uid, |of| {
            (release::Answers::new(of.answered.iter().cloned().collect()), of.asking_since)
        })
    }

    /// Asks what has not been asked yet.
    pub(super) fn ask<F, T>(self: &Arc<Self>, canary: &NamespacedName, uid: &str, open: Vec<Question>, find_out: F)
    where
        F: Fn(Question) -> T,
        T: Future<Output = Answer> + Send + 'static,
    {
        for question in open {
            let key = question.key();
            let new = self.with(canary, uid, |of| of.start(key));
            if !new {
                continue;
            }
            let is_hook = matches!(question, Question::Hook { .. });
            let asking = find_out(question);
            let (answers, canary, uid) = (self.clone(), canary.clone(), uid.to_owned());
            tokio::spawn(async move {
                let shutdown = answers.shutdown.clone();
                let answer = tokio::select! {
                    () = shutdown.cancelled() => return,
                    answer = answers.permitted(is_hook, asking) => answer,
                };
                answers.with(&canary, &uid, |of| of.finish(answer));
                answers.wakeups.wake(&canary);
            });
        }
    }

    async fn permitted(&self, is_hook: bool, asking: impl Future<Output = Answer>) -> Answer {
        // The semaphores are never closed; if they were, asking without a permit would be the harmless reading of it.
        let _permit = if is_hook { self.hooks.acquire().await } else { self.queries.acquire().await };
        asking.await
    }

    /// The Canary is gone.
    pub(super) fn forget(&self, canary: &NamespacedName) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(canary);
    }

    fn with<T>(&self, canary: &NamespacedName, uid: &str, change: impl FnOnce(&mut OfCanary) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || OfCanary {
            uid: uid.to_owned(),
            asking_since: self.clock.now(),
            pending: Vec::new(),
            answered: VecDeque::new(),
        };
        let of = inner.entry(canary.clone()).or_insert_with(fresh);
        if of.uid != uid {
            *of = fresh();
        }
        change(of)
    }
}

impl OfCanary {
    /// Whether the question is new.
    fn start(&mut self, key: QuestionKey) -> bool {
        let known = self.pending.contains(&key) || self.answered.iter().any(|answer| answer.key() == key);
        if !known {
            self.pending.push(key);
        }
        !known
    }

    fn finish(&mut self, answer: Answer) {
        let answered = answer.key();
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
    use crate::release::Tick;

    use super::*;

    fn question(number: u32) -> Question {
        let release = ReleaseId::new(1, &Digest::of_canonical(b"x"));
        Question::Providers { key: Tick { release, number }, checks: Vec::new() }
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
                async { Answer::Providers(key, Ok(())) }
            });
        };
        ask("u1", 1);
        wakeups.rung().await;
        assert_eq!(wakeups.take(), [canary.clone()].into());
        ask("u1", 1);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_ne!(answers.of(&canary, "u1").0, release::Answers::default());
        assert_eq!(answers.of(&canary, "u2").0, release::Answers::default(), "a Canary made anew starts afresh");
    }
}
