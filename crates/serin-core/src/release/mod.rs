//! The release engine: what to do next, decided from plain data.
//!
//! PURE: no I/O, no clock, no async, no randomness. Time is an argument, the world is an [`Observed`], the outside is
//! asked through [`Question`]s and changed through [`Action`]s that somebody else carries out.
//!
//! ```text
//! ask (&Policy, &Observed, &State, now) -> Vec<Question>
//! step(&Policy, &Observed,  State, now) -> Step { state, actions, report, wake }
//! ```
//!
//! `step` never waits: a pending answer is simply not there yet. The caller writes `Step::state` before it carries out
//! `Step::actions`; the actions follow again from that state, so a crash in between repeats them.

mod action;
mod affinity;
mod ask;
mod attempt;
mod observed;
mod outcome;
mod policy;
mod projection;
mod questions;
mod report;
mod shed;
mod state;
mod step;
pub mod wire;
mod words;

pub use action::Action;
pub use affinity::{CookieShape, Stickiness};
pub use ask::{
    Answer, Answers, Counter, HookKey, LookKey, MetricKey, ProviderFault, Question, QuestionKey, Tick, ask,
};
pub use attempt::{Cause, CheckResult, End, Progress, RefusedRoute, Release, Stage, StepClock};
pub use observed::{
    AutoscalerObserved, Count, Deleting, Hold, Limits, Observed, Obstacle, Readiness, Request, RouteObserved,
    Side, Unaccepted, Updates, Verb, WorkloadObserved,
};
pub use outcome::{Outcome, OutcomeKind, PostRollout};
pub use policy::{Guards, Names, Policy, PolicyStep, Promotion, Size, Sizing};
pub use projection::{Held, PromotedCondition, Trouble};
pub use report::{Event, EventType, Report, WaitingOn};
pub use state::{HandBack, HeldMinimum, JournalEntry, Phase, Promoted, Rebuilt, State, StepProgress, Unheld};
pub use step::{Led, Persist, Step, refuse, retarget, step, take_up};

pub use crate::analysis::{Check, CheckSource, Hook, HookKind, HookReply, Key, Keyed, OnMissing, Range, Rounds};
pub use crate::model::Quarantined;
