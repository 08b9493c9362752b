//! `--as`: a request of somebody else is answered as RBAC would have it. Everybody who says nothing of whom they are is the one
//! administrator of the sandbox.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::Server;
use super::super::json::{strings, text};
use super::super::kinds::Resource;
use super::super::selector::Selector;
use super::super::status::ApiError;
use super::update::selector_text;

const ROLES: &str = "roles.rbac.authorization.k8s.io";
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
/// Who may do everything.
const MASTERS: &str = "system:masters";
/// What everybody may ask about themselves.
const OF_ONESELF: &str = "authorization.k8s.io";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    /// `pods`, `pods/eviction`.
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl User {
    /// Whom a request is made for, if it says so.
    pub(super) fn impersonated(headers: &HeaderMap) -> Option<Self> {
        let name = headers.get("impersonate-user")?.to_str().ok()?.to_owned();
        let groups = headers.get_all("impersonate-group").iter().filter_map(|group| group.to_str().ok());
        let mut groups: Vec<String> = groups.map(str::to_owned).collect();
        if let Some((namespace, _)) =
            name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        groups.push("system:authenticated".to_owned());
        Some(Self { name, groups })
    }

    /// Whether roles allow something.
    pub(super) fn may(&self, server: &Server, resource: &Resource, wanted: Wanted<'_>) -> bool {
        if self.groups.iter().any(|group| group == MASTERS) || wanted.group == OF_ONESELF {
            return true;
        }
        let bindings = |kind, namespace| server.store.list(kind, namespace).objects;
        let in_namespace = (!wanted.namespace.is_empty()).then(|| bindings(BINDINGS, Some(wanted.namespace)));
        let all = bindings(CLUSTER_BINDINGS, None).into_iter().chain(in_namespace.into_iter().flatten());
        let own = all.filter(|(_, binding)| self.is_bound(binding, wanted.namespace));
        own.flat_map(|(_, binding)| rules(server, resource, &binding, wanted.namespace))
            .any(|rule| allows(&rule, wanted))
    }

    fn is_bound(&self, binding: &Value, namespace: &str) -> bool {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.into_iter().any(|subject| {
            let name = text(&subject["name"]);
            match text(&subject["kind"]) {
                "User" => self.name == name,
                "Group" => self.groups.iter().any(|group| group == name),
                "ServiceAccount" => {
                    let own = subject["namespace"].as_str().unwrap_or(namespace);
                    self.name == format!("system:serviceaccount:{own}:{name}")
                }
                _ => false,
            }
        })
    }
}

/// The rules of the role that a binding names; a ClusterRole that gathers others has theirs.
fn rules(server: &Server, resource: &Resource, binding: &Value, namespace: &str) -> Vec<Value> {
    let of = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
    let (kind, name) = (text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
    let found = |storage, namespace| {
        let all = server.store.list(storage, namespace).objects;
        all.into_iter().find(|(key, _)| key.name == name).map(|(_, role)| role)
    };
    let role = match kind {
        "ClusterRole" => found(CLUSTER_ROLES, None),
        _ => found(ROLES, Some(namespace)),
    };
    let Some(role) = role else { return Vec::new() };
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
    let selectors: Vec<Selector> =
        selectors.filter_map(|selector| Selector::parse(resource, &selector_text(selector), "").ok()).collect();
    let others = server.store.list(CLUSTER_ROLES, None).objects.into_iter();
    let gathered = others.filter(|(_, other)| selectors.iter().any(|selector| selector.matches(other)));
    of(&role).into_iter().chain(gathered.flat_map(|(_, other)| of(&other))).collect()
}

fn allows(rule: &Value, wanted: Wanted<'_>) -> bool {
    let names = |field: &str, wanted: &str| strings(&rule[field]).any(|known| known == "*" || known == wanted);
    let any_name = rule["resourceNames"].as_array().is_none_or(Vec::is_empty);
    let resource = names("resources", wanted.resource)
        || wanted.resource.split_once('/').is_some_and(|(_, sub)| names("resources", &format!("*/{sub}")));
    names("verbs", wanted.verb)
        && names("apiGroups", wanted.group)
        && resource
        && (any_name || (!wanted.name.is_empty() && names("resourceNames", wanted.name)))
}

/// 403, as a real server words it.
pub(super) fn forbidden(user: &User, wanted: Wanted<'_>) -> ApiError {
    let Wanted { verb, group, resource, namespace, name } = wanted;
    let plural = resource.split('/').next().unwrap_or(resource);
    let qualified = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
    let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
    let place = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    ApiError {
        code: StatusCode::FORBIDDEN,
        reason: "Forbidden",
        message: format!(
            "{qualified}{named} is forbidden: User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}",
            user.name
        ),
        details: Some(json!({"name": name, "group": group, "kind": plural})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> =
        Wanted { verb: "get", group: "apps", resource: "deployments", namespace: "test", name: "web" };

    #[test]
    fn a_rule_allows_what_it_names() {
        let rule = |names: &[&str]| json!({"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["deployments", "*/scale"], "resourceNames": names});
        assert!(allows(&rule(&[]), WANTED) && allows(&rule(&["web"]), WANTED));
        assert!(!allows(&rule(&["other"]), WANTED) && !allows(&rule(&["web"]), Wanted { name: "", ..WANTED }));
        assert!(!allows(&rule(&[]), Wanted { verb: "patch", ..WANTED }));
        assert!(!allows(&rule(&[]), Wanted { group: "", ..WANTED }));
        assert!(!allows(&rule(&[]), Wanted { resource: "deployments/status", ..WANTED }));
        assert!(allows(&rule(&[]), Wanted { resource: "deployments/scale", ..WANTED }));
    }

    #[test]
    fn service_accounts_have_their_groups() {
        let mut headers = HeaderMap::new();
        assert_eq!(User::impersonated(&headers), None);
        headers.insert("impersonate-user", "system:serviceaccount:ci:deployer".parse().unwrap());
        let user = User::impersonated(&headers).unwrap();
        let groups = ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"];
        assert_eq!(user.groups, groups);
        let binding = json!({"subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": "ci"}]});
        assert!(user.is_bound(&binding, "test"));
        assert!(!user.is_bound(&json!({"subjects": [{"kind": "User", "name": "deployer"}]}), "ci"));
    }
}
