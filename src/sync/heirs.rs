//! An app that gets another name: Git drops the target and its Canary, and another Canary wants the service in front of them. The
//! old target serves until that one does.

use serde_json::Value;

use super::apply::Trouble;
use super::desired::Link;
use crate::api::annotations::HEIR;
use crate::cluster::{Cluster, call};
use crate::model::ObjectRef;

/// The Canary without a primary of its own whose service leads to the pods of this Deployment, if there is one.
pub(super) async fn heir<'c>(
    cluster: &Cluster,
    id: &ObjectRef,
    live: &Value,
    canaries: &'c [Link],
) -> Result<Option<&'c Link>, Trouble> {
    if id.kind != "Deployment" {
        return Ok(None);
    }
    for link in canaries.iter().filter(|link| may_inherit(link, id)) {
        // Once told it counts until the end, also when the service leads elsewhere and the route does not yet.
        if marked(live) == Some(link.canary.name.as_str()) {
            return Ok(Some(link));
        }
        let resolved = cluster.resolve("", "v1", "Service").await?;
        let api = cluster.objects(&resolved, id.namespace.as_deref());
        let service = call(&format!("read Service {}", link.service), api.get_opt(&link.service)).await?;
        let service = service.map(serde_json::to_value).transpose()?;
        if service.is_some_and(|service| leads_to(&service, live)) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// The Canary that a Deployment was promised to.
pub(super) fn marked(live: &Value) -> Option<&str> {
    live["metadata"]["annotations"][HEIR].as_str()
}

fn may_inherit(link: &Link, id: &ObjectRef) -> bool {
    !link.serves && link.target != id.name && id.namespace.as_ref() == Some(&link.canary.namespace)
}

/// Whether a Service selects the pods of a Deployment.
fn leads_to(service: &Value, deployment: &Value) -> bool {
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::NamespacedName;

    #[test]
    fn who_waits_for_a_service_may_inherit_it_from_another_target_of_the_namespace() {
        let id = |namespace: &str, name: &str| ObjectRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        };
        let (canary, service) = (NamespacedName::new("test", "later"), "podinfo".to_owned());
        let link = Link { canary, target: "later".into(), service, serves: false, invalid: None };
        assert!(may_inherit(&link, &id("test", "podinfo")));
        assert!(!may_inherit(&link, &id("test", "later")), "its own target");
        assert!(!may_inherit(&link, &id("prod", "podinfo")));
        assert!(!may_inherit(&Link { serves: true, ..link }, &id("test", "podinfo")));
    }

    #[test]
    fn a_service_leads_to_pods_that_have_all_it_asks_for() {
        let deployment = json!({"spec": {"template": {"metadata": {"labels": {"app": "a", "tier": "web"}}}}});
        for (selector, expected) in [
            (json!({"app": "a"}), true),
            (json!({"app": "a", "tier": "web"}), true),
            (json!({"app": "a-primary"}), false),
            (json!({"app": "a", "zone": "1"}), false),
            (json!({}), false),
            (Value::Null, false),
        ] {
            assert_eq!(leads_to(&json!({"spec": {"selector": selector}}), &deployment), expected, "{selector}");
        }
    }
}
