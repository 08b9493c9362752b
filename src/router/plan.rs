//! Rules as all routers know them: which requests, where they go, which cookies are set. Writing turns a routing into these
//! and these into the words of one kind of route; reading goes the other way.
//!
//! Reading never fails: whatever a rule sends elsewhere is an extra backend of the routing, so a route that somebody bent is
//! seen to differ from every routing that is wanted.

use serde_json::{Value, json};

use crate::model::{Affinity, Cookie, Routing, Rule, Split, Sticky};

use super::matches::merged;

/// Name of the rule for users who bring the canary's cookie.
const STICKY_CANARY: &str = "serin-sticky-canary";
/// Name of the rule for users who bring primary's cookie.
const STICKY_PRIMARY: &str = "serin-sticky-primary";
/// Name of the rule for users who bring a cookie of an earlier release.
const STICKY_OVER: &str = "serin-sticky-over";
/// Where a rule leads that has no destination with a weight.
const NOWHERE: &str = "nowhere";

/// A rule to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned<'a> {
    /// Its name; the last rule, of all other requests, has none.
    pub(super) name: Option<&'a str>,
    /// Which requests, in Istio's words; all of them if it is empty.
    pub(super) when: Vec<Value>,
    /// Where they go.
    pub(super) split: &'a Split,
    /// Cookies for whom a side answers.
    pub(super) issues: Option<&'a Affinity>,
    /// A cookie that is taken back.
    pub(super) withdraws: Option<&'a Cookie>,
}

impl Planned<'_> {
    /// The cookie for whom the stable side answers.
    pub(super) fn for_stable(&self) -> Option<&Cookie> {
        self.issues?.stable.as_ref()
    }

    /// The cookie for whom the candidate answers.
    pub(super) fn for_candidate(&self) -> Option<&Cookie> {
        self.issues.map(|affinity| &affinity.candidate)
    }
}

/// Everything to the candidate, and nothing.
static ALL: Split = Split::ALL;
static NONE: Split = Split::NONE;

/// The rules that say `routing`, in order: cookies first, then its own rules, then the rest. `common` is what the Canary wants
/// of all requests.
pub(super) fn plan<'a>(routing: &'a Routing, common: &[Value]) -> Vec<Planned<'a>> {
    let Routing { rules, base, sticky } = routing;
    let apart = rules.iter().map(|Rule { name, when, split }| Planned {
        name: Some(name),
        when: when.clone(),
        split,
        issues: None,
        withdraws: None,
    });
    let issues = match sticky {
        Sticky::Issue(affinity) => Some(affinity.as_ref()),
        Sticky::Off | Sticky::Withdraw(_) => None,
    };
    let rest = Planned { name: None, when: common.to_vec(), split: base, issues, withdraws: None };
    by_cookie(routing, common).into_iter().chain(apart).chain([rest]).collect()
}

/// The rules for users who bring a cookie.
fn by_cookie<'a>(routing: &'a Routing, common: &[Value]) -> Vec<Planned<'a>> {
    let pinned = |name: &'static str, cookie: &Cookie, split: &'a Split| Planned {
        name: Some(name),
        when: merged(&[json!({"headers": {"cookie": {"regex": brings(cookie)}}})], common),
        split,
        issues: None,
        withdraws: None,
    };
    match &routing.sticky {
        Sticky::Off => Vec::new(),
        Sticky::Issue(affinity) => {
            let Affinity { candidate, stable } = affinity.as_ref();
            let to_canary = pinned(STICKY_CANARY, candidate, &ALL);
            let to_primary = stable.as_ref().map(|cookie| pinned(STICKY_PRIMARY, cookie, &NONE));
            [to_canary].into_iter().chain(to_primary).collect()
        }
        Sticky::Withdraw(cookie) => {
            vec![Planned { withdraws: Some(cookie), ..pinned(STICKY_OVER, cookie, &routing.base) }]
        }
    }
}

/// Matches a header `Cookie` that has this one among others. Names of cookies may hold characters that mean something in
/// regular expressions.
fn brings(cookie: &Cookie) -> String {
    format!("(.*;)? ?{}(;.*)?", escaped(&cookie.pair()))
}

/// Text as a regular expression that matches just that.
pub(super) fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let means_something = !(character.is_ascii_alphanumeric() || "_-=".contains(character));
            means_something.then_some('\\').into_iter().chain([character])
        })
        .collect()
}

/// A rule as it is found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) name: Option<String>,
    pub(super) when: Vec<Value>,
    pub(super) split: Split,
    pub(super) for_stable: Option<Cookie>,
    pub(super) for_candidate: Option<Cookie>,
    pub(super) withdraws: Option<Cookie>,
}

/// What rules say; `None` for the rest: there is none.
pub(super) fn routing(mut apart: Vec<Found>, rest: Option<Found>) -> Routing {
    let Some(rest) = rest else { return Routing::all(nowhere()) };
    let sticky = match sticky_of(&apart, &rest) {
        Some((sticky, used)) => {
            apart.drain(..used);
            sticky
        }
        None => Sticky::Off,
    };
    let rules = apart.into_iter().enumerate().map(|(index, Found { name, when, split, .. })| Rule {
        name: name.unwrap_or_else(|| format!("rule {index}")),
        when,
        split,
    });
    Routing { rules: rules.collect(), base: rest.split, sticky }
}

/// What the first rules say of cookies, and how many of them do. `None` if they say nothing, or something of their own.
fn sticky_of(apart: &[Found], rest: &Found) -> Option<(Sticky, usize)> {
    let named = |index: usize, name: &str| apart.get(index).filter(|rule| rule.name.as_deref() == Some(name));
    if let Some(over) = named(0, STICKY_OVER) {
        return Some((Sticky::Withdraw(over.withdraws.clone()?), 1));
    }
    if named(0, STICKY_CANARY)?.split != ALL {
        return None;
    }
    let (candidate, stable) = (rest.for_candidate.clone()?, rest.for_stable.clone());
    let used = if stable.is_some() && named(1, STICKY_PRIMARY).is_some() { 2 } else { 1 };
    Some((Sticky::Issue(Box::new(Affinity { candidate, stable })), used))
}

/// Whom a destination belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backend {
    Stable,
    Candidate,
    Other(String),
}

/// Where a rule sends requests. Weights are shares of their sum; what is not whole counts for whom it goes to beside the
/// stable side.
pub(super) fn split(backends: &[(Backend, u64)], mirror: u8) -> Split {
    let sum: u64 = backends.iter().map(|(_, weight)| weight).sum();
    if sum == 0 {
        return nowhere();
    }
    let percent = |weight: u64| u8::try_from((weight * 100).div_ceil(sum)).unwrap_or(100);
    let to_candidate = backends.iter().filter(|(to, _)| *to == Backend::Candidate).map(|(_, weight)| weight).sum();
    let split = Split::candidate_percent(percent(to_candidate)).mirrored(mirror);
    backends.iter().fold(split, |split, (to, weight)| match to {
        Backend::Stable | Backend::Candidate => split,
        Backend::Other(name) => split.with_extra(name, percent(*weight)),
    })
}

/// A destination that cannot be named.
pub(super) fn unknown() -> Backend {
    Backend::Other(NOWHERE.to_owned())
}

/// A split that no routing wants.
fn nowhere() -> Split {
    Split::default().with_extra(NOWHERE, 100)
}
