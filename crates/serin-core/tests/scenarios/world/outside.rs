//! Whoever else acts: providers and webhooks that answer, `sync` that writes, pods that come up.

use serin_core::analysis::{Measurement, Reading};
use serin_core::release::{Answer, CheckSource, HookKind, HookReply, ProviderFault, Question};

use super::{Reaction, World};
use crate::policies::GOOD;
use crate::properties::Property;

/// Answers that are kept: far more than one round has questions.
const ANSWERS_KEPT: usize = 60;

impl World {
    pub(super) fn answer(&mut self) -> bool {
        let questions = (self.engine.ask)(&self.policy, &self.observe(), &self.state, self.now);
        let mut answered = false;
        for question in questions {
            self.history.asked(&question, self.now);
            let reaction = self.reactions.get(&label(&question)).cloned();
            let Some(answer) = self.react(reaction, question.clone()) else { continue };
            self.history.heard(&question, &answer, self.now);
            self.answers.push(answer);
            answered = true;
        }
        let surplus = self.answers.len().saturating_sub(ANSWERS_KEPT);
        self.answers.drain(..surplus);
        answered
    }

    pub(super) fn sync(&mut self) -> bool {
        let Some(pending) = self.pending.clone().filter(|_| self.sync_works && !self.deleting) else {
            return false;
        };
        if self.state.admitted.as_ref() != Some(&pending) {
            return false;
        }
        let changes = self.target.as_ref().is_some_and(|target| target.digest != pending.digest);
        if self.has_traffic() && !self.meddled && changes {
            self.breaks(Property::Drained, "a template is written under traffic".to_owned());
        }
        if let Some(target) = &mut self.target {
            target.template(&pending.digest);
            target.stamped = Some(pending);
        }
        self.pending = None;
        true
    }

    pub(super) fn progress(&mut self) -> bool {
        let mut moved = false;
        for side in [&mut self.target, &mut self.primary].into_iter().flatten() {
            moved |= std::mem::take(&mut side.settling);
            if side.told.is_none() {
                (side.available, side.kept) = (None, 0);
            }
        }
        let is_autoscaled = self.size.is_none();
        for side in [&mut self.target, &mut self.primary].into_iter().flatten() {
            if is_autoscaled && (1..side.minimum).contains(&side.replicas) {
                side.scale(side.minimum);
                moved = true;
            }
        }
        moved
    }
}

/// What a script calls it: unlike names, never twice the same.
fn label(question: &Question) -> String {
    match question {
        Question::Providers { .. } => "providers".to_owned(),
        Question::Requests { .. } => "requests".to_owned(),
        Question::Compare { .. } => "counters".to_owned(),
        Question::History { .. } => "history".to_owned(),
        Question::Metric { check, .. } => match &check.source {
            CheckSource::Template { template, .. } => template.name.clone(),
            CheckSource::SuccessRate | CheckSource::Duration | CheckSource::Query(_) => check.name.clone(),
        },
        Question::Hook { hook, .. } => hook.url.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

impl World {
    fn react(&self, reaction: Option<Reaction>, question: Question) -> Option<Answer> {
        let now = self.now;
        if matches!(reaction, Some(Reaction::Silent)) {
            return None;
        }
        Some(match question {
            Question::Metric { key, check, .. } => {
                let reading = match reaction {
                    Some(Reaction::Reads(reading)) => reading,
                    _ => {
                        let range = check.condition.range().unwrap_or_default();
                        Reading::Value { value: range.min.or(range.max).unwrap_or(GOOD) }
                    }
                };
                Answer::Metric(key, Measurement { reading, query: String::new(), at: now })
            }
            Question::Hook { key, hook, .. } => {
                let reply = match reaction {
                    Some(Reaction::Refuses(body)) => HookReply { accepted: false, body },
                    Some(Reaction::Accepts) => HookReply { accepted: true, body: String::new() },
                    // A rollback hook that accepts asks for a rollback: by default it does not.
                    _ => HookReply { accepted: hook.kind != HookKind::Rollback, body: String::new() },
                };
                Answer::Hook(key, reply)
            }
            Question::Requests { key, .. } => {
                Answer::Requests(key, self.requests.ok_or_else(|| "the router does not answer".to_owned()))
            }
            Question::Compare { key, look } => Answer::Compare(
                key,
                match reaction {
                    Some(Reaction::Refuses(why)) => Err(why),
                    _ => Ok(self.counters.look(&look, now)),
                },
            ),
            Question::History { release, .. } => Answer::History(release, Ok(self.counters.history())),
            Question::Providers { key, .. } => match reaction {
                Some(Reaction::Refuses(body)) => Answer::Providers(key, Err(ProviderFault::Unreachable(body))),
                Some(Reaction::Reads(Reading::Misconfigured { reason })) => {
                    Answer::Providers(key, Err(ProviderFault::Policy(reason)))
                }
                _ => Answer::Providers(key, Ok(())),
            },
        })
    }
}
