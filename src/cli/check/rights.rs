//! What the daemon may do: all that it needs, and nothing else.
//!
//! What is needed is what `deploy/kustomize/rbac.yaml` grants, which a test holds against what the daemon was seen to use.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Line, World};
use crate::cluster::{call, explain};

/// The roles of the installation.
const ROLES: &str = include_str!("../../../deploy/kustomize/rbac.yaml");
/// Further ones, for Rollouts.
const ROLLOUTS: &str = include_str!("../../../deploy/rollouts/rbac.yaml");
/// Rights that are named in a line.
const NAMED_MAX: usize = 6;
/// Questions at a time, where rights are asked for one by one.
const PARALLEL: usize = 8;
/// Groups that everybody has rights in.
const EVERYBODYS: [&str; 2] = ["authorization.k8s.io", "authentication.k8s.io"];
const WHAT: &str = "rights";
const REMEDY: &str = "kubectl apply -k deploy/kustomize; what your repository brings needs a ClusterRole with the label \
                      serin.dev/aggregate-to-sync";

/// One right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    fn words(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{} {}{group}", self.verb, self.resource)
    }
}

pub(super) async fn lines(world: &World) -> Vec<Line> {
    let mut needed = rights_in(ROLES);
    if world.settings.rollouts {
        needed.extend(rights_in(ROLLOUTS));
    }
    match granted(world).await {
        Ok(Some(rules)) => of_rules(&needed, &rules),
        Ok(None) => vec![one_by_one(world, &needed).await],
        Err(reason) => {
            vec![Line::warn(
                WHAT,
                format!("they cannot be asked for: {reason}"),
                "ask in the daemon's pod: kubectl exec",
            )]
        }
    }
}

fn of_rules(needed: &BTreeSet<Right>, rules: &[ResourceRule]) -> Vec<Line> {
    let missing: Vec<String> =
        needed.iter().filter(|right| !rules.iter().any(|rule| grants(rule, right))).map(Right::words).collect();
    let first = match missing.is_empty() {
        true => Line::pass(WHAT, format!("all {} that are needed are there", needed.len())),
        false => Line::fail(WHAT, format!("missing: {}", named(&missing)), REMEDY),
    };
    let mut beyond: Vec<String> = rules.iter().flat_map(|rule| surplus(rule, needed)).collect();
    beyond.sort_unstable();
    beyond.dedup();
    let second = match beyond.is_empty() {
        true => Line::pass(WHAT, "none beyond what is needed"),
        false => Line::warn(
            WHAT,
            format!("beyond need: {}", named(&beyond)),
            "take away what your repository does not bring; as yourself you have your own rights: ask in the daemon's pod",
        ),
    };
    vec![first, second]
}

/// Whether a rule, as far as it holds for every name, grants it. What is needed of one object only may be granted so.
fn grants(rule: &ResourceRule, right: &Right) -> bool {
    let has = |list: Option<&Vec<String>>, word: &str| {
        list.is_some_and(|list| list.iter().any(|it| it == word || it == "*"))
    };
    has(rule.api_groups.as_ref(), &right.group)
        && has(rule.resources.as_ref(), &right.resource)
        && has(Some(&rule.verbs), &right.verb)
}

/// What a rule grants beyond what is needed.
fn surplus(rule: &ResourceRule, needed: &BTreeSet<Right>) -> Vec<String> {
    let lists = (rule.api_groups.as_deref().unwrap_or_default(), rule.resources.as_deref().unwrap_or_default());
    let mut found = Vec::new();
    for group in lists.0.iter().filter(|group| !EVERYBODYS.contains(&group.as_str())) {
        for resource in lists.1 {
            for verb in &rule.verbs {
                let right = Right { group: group.clone(), resource: resource.clone(), verb: verb.clone() };
                if !needed.contains(&right) {
                    found.push(right.words());
                }
            }
        }
    }
    found
}

fn named(rights: &[String]) -> String {
    let more = rights.len().saturating_sub(NAMED_MAX);
    let first: Vec<&str> = rights.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

/// The rules that hold in the daemon's namespace; `None` if the API server does not list them.
async fn granted(world: &World) -> Result<Option<Vec<ResourceRule>>, String> {
    let api: Api<SelfSubjectRulesReview> = Api::all(world.cluster.client());
    let namespace = Some(world.settings.lease.namespace.clone());
    let review = SelfSubjectRulesReview { spec: SelfSubjectRulesReviewSpec { namespace }, ..Default::default() };
    match call(
        "ask for the rules that hold",
        api.create(&PostParams { dry_run: true, ..PostParams::default() }, &review),
    )
    .await
    {
        Ok(answer) => {
            let status = answer.status.unwrap_or_default();
            Ok((!status.incomplete).then_some(status.resource_rules))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(explain(&error)),
    }
}

/// Where no list is to be had, each right is asked for.
async fn one_by_one(world: &World, needed: &BTreeSet<Right>) -> Line {
    let api: Api<SelfSubjectAccessReview> = Api::all(world.cluster.client());
    let ask = |right: Right| {
        let api = &api;
        async move {
            let (resource, subresource) = match right.resource.split_once('/') {
                Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
                None => (right.resource.clone(), None),
            };
            let attributes = ResourceAttributes {
                group: Some(right.group.clone()),
                resource: Some(resource),
                subresource,
                verb: Some(right.verb.clone()),
                namespace: Some(world.settings.lease.namespace.clone()),
                ..Default::default()
            };
            let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
            let review = SelfSubjectAccessReview { spec, ..Default::default() };
            let params = PostParams { dry_run: true, ..PostParams::default() };
            let answer = call("ask for a right", api.create(&params, &review)).await;
            answer.map(|answer| (!answer.status.is_some_and(|status| status.allowed)).then(|| right.words()))
        }
    };
    let answers: Vec<_> = stream::iter(needed.iter().cloned().map(ask)).buffered(PARALLEL).collect().await;
    let mut missing = Vec::new();
    for answer in answers {
        match answer {
            Ok(found) => missing.extend(found),
            Err(error) => {
                return Line::warn(WHAT, format!("they cannot be asked for: {}", explain(&error)), REMEDY);
            }
        }
    }
    match missing.is_empty() {
        true => Line::pass(WHAT, format!("all {} that are needed are there", needed.len())),
        false => Line::fail(WHAT, format!("missing: {}", named(&missing)), REMEDY),
    }
}

/// All rights of the roles in a text of manifests.
fn rights_in(text: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document).unwrap_or_default();
        let rules: Vec<PolicyRule> = serde_json::from_value(object["rules"].clone()).unwrap_or_default();
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let right = |verb: &String| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                    };
                    rights.extend(rule.verbs.iter().map(right));
                }
            }
        }
    }
    rights
}
