//! Traffic as a value: which requests reach which side.
//!
//! Two routings are compared by exposure: what they send, or copy, to anything but the stable side. That order is
//! partial: a rule for some users and a share of all users cannot be compared, and what cannot be compared counts as a
//! raise.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where all requests of one target go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// Requests that are treated apart, in order: the first rule that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// All other requests.
    pub base: Split,
    /// Whether users stay on the side that answered them first.
    #[serde(default, skip_serializing_if = "Sticky::is_off")]
    pub sticky: Sticky,
}

/// Requests that are treated apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name on the route object.
    pub name: String,
    /// Which requests: any of these, each in the words of Istio's HTTPMatchRequest, which Canaries and Rollouts are
    /// written in. Never empty.
    pub when: Vec<Value>,
    /// Where they go.
    pub split: Split,
}

/// How requests are divided, in percent. What neither the candidate nor an extra backend gets goes to the stable side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    candidate: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra: Vec<Extra>,
    #[serde(default, skip_serializing_if = "is_zero")]
    mirror: u8,
}

/// A backend that is neither of the two sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// The Service's name, or its host where it is of another namespace.
    pub backend: String,
    /// Its percent.
    pub percent: u8,
}

/// Whether users stay on the side that answered them first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sticky {
    /// They do not.
    #[default]
    Off,
    /// Whom the candidate answers gets a cookie, and with it goes to the candidate from then on.
    Issue(Box<Affinity>),
    /// Users who still bring the cookie of an earlier release are told to drop it.
    Withdraw(Cookie),
}

/// The cookies of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Keeps a user on the candidate.
    pub candidate: Cookie,
    /// Keeps a user on the stable side for a while, so that a raise does not move everybody at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Cookie>,
}

/// A cookie as it is issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value: letters only, one for each release.
    pub value: String,
    /// `Max-Age`, in seconds; below zero it is over, and browsers drop it.
    pub max_age: i64,
    /// Further attributes as they are written: `; Path=/; Secure`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
}

/// Begins the attribute that says how long a cookie is kept.
const MAX_AGE: &str = "Max-Age=";

impl Routing {
    /// `percent` of all requests to the candidate; values above 100 count as 100.
    pub fn candidate_percent(percent: u8) -> Self {
        Self::all(Split::candidate_percent(percent))
    }

    /// All requests alike.
    pub fn all(base: Split) -> Self {
        Self { rules: Vec::new(), base, sticky: Sticky::Off }
    }

    /// Whether anything but the stable side is sent any request, or a copy of one.
    pub fn exposes(&self) -> bool {
        matches!(self.sticky, Sticky::Issue(_)) || self.splits().any(Split::exposes)
    }

    /// Whether the stable side is sent any request.
    pub fn uses_stable(&self) -> bool {
        self.splits().any(|split| split.stable() > 0)
    }

    /// The candidate's share of the requests that it gets most of, in percent.
    pub fn highest_share(&self) -> u8 {
        self.splits().map(Split::candidate).max().unwrap_or_default()
    }

    /// Whether it exposes some request more than `other` does, or may: what cannot be compared counts.
    pub fn exposes_more_than(&self, other: &Self) -> bool {
        !at_most(&self.classes(), &other.classes())
    }

    /// All splits, the rules' before the base.
    fn splits(&self) -> impl Iterator<Item = &Split> {
        self.rules.iter().map(|rule| &rule.split).chain([&self.base])
    }

    /// The classes of requests that it tells apart, in order; the last one is all the rest.
    fn classes(&self) -> Vec<Class<'_>> {
        let sticky = match &self.sticky {
            Sticky::Issue(affinity) => Some(Class {
                when: Condition::Cookie(&affinity.candidate.value),
                split: Split::candidate_percent(100),
            }),
            Sticky::Off | Sticky::Withdraw(_) => None,
        };
        let rules = self.rules.iter();
        let rules = rules.map(|rule| Class { when: Condition::Rule(&rule.when), split: rule.split.clone() });
        let base = Class { when: Condition::Always, split: self.base.clone() };
        sticky.into_iter().chain(rules).chain([base]).collect()
    }
}

/// Requests that are treated alike.
#[derive(Debug, Clone, PartialEq)]
struct Class<'a> {
    when: Condition<'a>,
    split: Split,
}

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition<'a> {
    Cookie(&'a str),
    Rule(&'a [Value]),
    Always,
}

/// Whether every request is exposed at most as much by `low` as by `high`. Never `true` where it is not so; `false` where
/// nobody can tell, because conditions may overlap.
fn at_most(low: &[Class<'_>], high: &[Class<'_>]) -> bool {
    let (Some(first_low), Some(first_high)) = (low.first(), high.first()) else { return false };
    if most(low).is_at_most(&least(high)) {
        return true;
    }
    if first_low.when == first_high.when {
        let rest = first_low.when == Condition::Always || at_most(&low[1..], &high[1..]);
        return first_low.split.is_at_most(&first_high.split) && rest;
    }
    // A class that only one of them tells apart falls, in the other, into one of those that follow.
    let knows = |classes: &[Class<'_>], when: &Condition<'_>| classes.iter().any(|class| class.when == *when);
    if !knows(low, &first_high.when) {
        return most(low).is_at_most(&first_high.split) && at_most(low, &high[1..]);
    }
    if !knows(high, &first_low.when) {
        return first_low.split.is_at_most(&least(high)) && at_most(&low[1..], high);
    }
    false
}

/// The most that any of the classes exposes.
fn most(classes: &[Class<'_>]) -> Split {
    classes.iter().fold(Split::default(), |most, class| most.merge(&class.split, u8::max))
}

/// The least that all of the classes expose.
fn least(classes: &[Class<'_>]) -> Split {
    let mut splits = classes.iter().map(|class| class.split.clone());
    let first = splits.next().unwrap_or_default();
    splits.fold(first, |least, split| least.merge(&split, u8::min))
}

impl Split {
    /// Everything to the candidate.
    pub const ALL: Self = Self { candidate: 100, extra: Vec::new(), mirror: 0 };
    /// Everything to the stable side.
    pub const NONE: Self = Self { candidate: 0, extra: Vec::new(), mirror: 0 };

    /// `percent` to the candidate, the rest to the stable side; values above 100 count as 100.
    pub fn candidate_percent(percent: u8) -> Self {
        Self { candidate: percent.min(100), extra: Vec::new(), mirror: 0 }
    }

    /// The same, with copies of `percent` of the requests sent to the candidate, whose answers nobody gets.
    pub fn mirrored(self, percent: u8) -> Self {
        Self { mirror: percent.min(100), ..self }
    }

    /// The same, with `percent` taken from the stable side for another backend; at most what the stable side has.
    pub fn with_extra(mut self, backend: impl Into<String>, percent: u8) -> Self {
        let percent = percent.min(self.stable());
        self.extra.push(Extra { backend: backend.into(), percent });
        self.extra.sort_by(|one, other| one.backend.cmp(&other.backend));
        self
    }

    /// Percent that goes to the candidate, 0 to 100.
    pub fn candidate(&self) -> u8 {
        self.candidate
    }

    /// Percent that goes to the stable side, 0 to 100.
    pub fn stable(&self) -> u8 {
        let extra: u8 = self.extra.iter().fold(0, |sum, extra| sum.saturating_add(extra.percent));
        100_u8.saturating_sub(self.candidate).saturating_sub(extra)
    }

    /// Other backends, by name.
    pub fn extra(&self) -> &[Extra] {
        &self.extra
    }

    /// Percent of the requests of which the candidate gets a copy, 0 to 100.
    pub fn mirror(&self) -> u8 {
        self.mirror
    }

    /// Whether anything but the stable side is sent any of these requests, or a copy of one.
    pub fn exposes(&self) -> bool {
        self.candidate > 0 || self.mirror > 0 || self.extra.iter().any(|extra| extra.percent > 0)
    }

    /// Whether every backend but the stable one gets at most what it gets with `other`.
    fn is_at_most(&self, other: &Self) -> bool {
        let extra = |extra: &Extra| extra.percent <= other.percent_of(&extra.backend);
        self.candidate <= other.candidate && self.mirror <= other.mirror && self.extra.iter().all(extra)
    }

    fn percent_of(&self, backend: &str) -> u8 {
        self.extra.iter().find(|extra| extra.backend == backend).map_or(0, |extra| extra.percent)
    }

    /// Backend by backend; not a split that adds up.
    fn merge(&self, other: &Self, choose: fn(u8, u8) -> u8) -> Self {
        let names = self.extra.iter().chain(&other.extra).map(|extra| extra.backend.as_str());
        let names: std::collections::BTreeSet<&str> = names.collect();
        let extra = names.into_iter().map(|backend| Extra {
            backend: backend.to_owned(),
            percent: choose(self.percent_of(backend), other.percent_of(backend)),
        });
        Self {
            candidate: choose(self.candidate, other.candidate),
            extra: extra.collect(),
            mirror: choose(self.mirror, other.mirror),
        }
    }
}

impl Sticky {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl Cookie {
    /// The same, to be dropped: a browser only knows it by the attributes that it was issued with.
    #[must_use]
    pub fn over(self) -> Self {
        Self { max_age: -1, ..self }
    }

    /// `name=value`, as browsers bring it.
    pub fn pair(&self) -> String {
        format!("{}={}", self.name, self.value)
    }

    /// The header `Set-Cookie`.
    pub fn header(&self) -> String {
        let Self { name, value, max_age, attributes } = self;
        format!("{name}={value}; {MAX_AGE}{max_age}{attributes}")
    }

    /// Reads what [`Self::header`] wrote; `None` for anything else.
    pub fn parse(header: &str) -> Option<Self> {
        let (pair, rest) = header.split_once("; ")?;
        let (name, value) = pair.split_once('=')?;
        let rest = rest.strip_prefix(MAX_AGE)?;
        let (age, attributes) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        let (name, value, attributes) = (name.to_owned(), value.to_owned(), attributes.to_owned());
        Some(Self { name, value, max_age: age.parse().ok()?, attributes })
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Rule { name, split, .. } in &self.rules {
            write!(f, "{name}: {split}; ")?;
        }
        write!(f, "{}", self.base)?;
        match &self.sticky {
            Sticky::Off => Ok(()),
            Sticky::Issue(affinity) => write!(f, ", sticky by cookie {}", affinity.candidate.name),
            Sticky::Withdraw(cookie) => write!(f, ", cookie {} withdrawn", cookie.name),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "primary {} %, canary {} %", self.stable(), self.candidate)?;
        for Extra { backend, percent } in &self.extra {
            write!(f, ", {backend} {percent} %")?;
        }
        if self.mirror > 0 {
            write!(f, ", {} % mirrored to the canary", self.mirror)?;
        }
        Ok(())
    }
}

fn is_zero(percent: &u8) -> bool {
    *percent == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn percent(percent: u8) -> Routing {
        Routing::candidate_percent(percent)
    }

    fn rule(name: &str, header: &str, percent: u8) -> Rule {
        Rule {
            name: name.to_owned(),
            when: vec![json!({"headers": {header: {"exact": "yes"}}})],
            split: Split::candidate_percent(percent),
        }
    }

    fn with(rules: Vec<Rule>, base: u8) -> Routing {
        Routing { rules, ..percent(base) }
    }

    fn issuing(value: &str, base: u8) -> Routing {
        let cookie =
            Cookie { name: "side".into(), value: value.into(), max_age: 86_400, attributes: "; Path=/".into() };
        Routing { sticky: Sticky::Issue(Box::new(Affinity { candidate: cookie, stable: None })), ..percent(base) }
    }

    #[test]
    fn exposure_is_ordered_where_it_can_be_told() {
        let mirrored = |candidate, mirror| Routing::all(Split::candidate_percent(candidate).mirrored(mirror));
        // Each exposes less than the next; neither order may be mistaken for the other.
        let chains = [
            vec![percent(0), percent(10), percent(100)],
            vec![percent(0), mirrored(0, 50), mirrored(0, 100), mirrored(10, 100)],
            vec![percent(0), with(vec![rule("ab", "x", 100)], 0), with(vec![rule("ab", "x", 100)], 5)],
            vec![percent(10), with(vec![rule("ab", "x", 100)], 10), percent(100)],
            vec![with(vec![rule("off", "x", 0)], 10), percent(10)],
            vec![percent(0), issuing("a", 10), issuing("a", 20)],
            vec![percent(10), issuing("a", 10), percent(100)],
            vec![percent(0), Routing::all(Split::default().with_extra("experiment", 5))],
        ];
        for chain in chains {
            for (index, low) in chain.iter().enumerate() {
                assert!(!low.exposes_more_than(low), "{low}");
                for high in &chain[index + 1..] {
                    assert!(high.exposes_more_than(low), "{high} over {low}");
                    assert!(!low.exposes_more_than(high), "{low} over {high}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_a_raise_both_ways() {
        let pairs = [
            (with(vec![rule("ab", "x", 100)], 0), percent(10)),
            (Routing::all(Split::default().mirrored(100)), percent(10)),
            (with(vec![rule("ab", "x", 100)], 0), with(vec![rule("ab", "y", 100)], 0)),
            (issuing("a", 10), issuing("b", 10)),
            (issuing("a", 10), percent(50)),
            // The order of rules decides who is meant by the second one.
            (
                with(vec![rule("a", "x", 100), rule("b", "y", 0)], 0),
                with(vec![rule("b", "y", 0), rule("a", "x", 100)], 0),
            ),
            (
                Routing::all(Split::default().with_extra("one", 5)),
                Routing::all(Split::default().with_extra("two", 5)),
            ),
        ];
        for (one, other) in pairs {
            assert!(one.exposes_more_than(&other), "{one} over {other}");
            assert!(other.exposes_more_than(&one), "{other} over {one}");
        }
    }

    #[test]
    fn copies_and_cookies_are_exposure_and_withdrawn_cookies_are_not() {
        assert!(!percent(0).exposes());
        assert!(percent(1).exposes());
        assert!(Routing::all(Split::default().mirrored(1)).exposes());
        assert!(with(vec![rule("ab", "x", 1)], 0).exposes());
        assert!(issuing("a", 0).exposes());
        let Sticky::Issue(affinity) = issuing("a", 0).sticky else { panic!("no cookie") };
        let withdrawn = Routing { sticky: Sticky::Withdraw(affinity.candidate.over()), ..percent(0) };
        assert!(!withdrawn.exposes());
        assert!(!withdrawn.exposes_more_than(&percent(0)));
    }

    #[test]
    fn what_is_stored_comes_back() {
        for routing in [
            percent(0),
            issuing("a", 20),
            with(vec![rule("ab", "x", 100)], 5),
            Routing::all(Split::candidate_percent(10).mirrored(50).with_extra("experiment", 5)),
        ] {
            let stored = serde_json::to_value(&routing).unwrap();
            assert_eq!(serde_json::from_value::<Routing>(stored).unwrap(), routing);
        }
        assert_eq!(serde_json::to_value(percent(30)).unwrap(), json!({"base": {"candidate": 30}}));
    }

    #[test]
    fn a_split_always_adds_up() {
        let split = Split::candidate_percent(200).with_extra("a", 10);
        assert_eq!((split.candidate(), split.stable(), split.extra()[0].percent), (100, 0, 0));
        let split = Split::candidate_percent(30).with_extra("b", 90).with_extra("a", 5);
        assert_eq!((split.stable(), split.extra()[0].backend.as_str()), (0, "a"));
    }

    #[test]
    fn cookies_are_dropped_with_the_attributes_they_were_issued_with() {
        let Sticky::Issue(affinity) = issuing("abc", 10).sticky else { panic!("no cookie") };
        let cookie = affinity.candidate;
        assert_eq!(cookie.header(), "side=abc; Max-Age=86400; Path=/");
        assert_eq!(cookie.clone().over().header(), "side=abc; Max-Age=-1; Path=/");
        let plain = Cookie { attributes: String::new(), ..cookie.clone() };
        for cookie in [cookie.clone().over(), cookie, plain] {
            assert_eq!(Cookie::parse(&cookie.header()), Some(cookie));
        }
        for other in ["", "side=abc", "side=abc; Path=/", "side=abc; Max-Age=soon", "side; Max-Age=1"] {
            assert_eq!(Cookie::parse(other), None, "{other}");
        }
    }
}
