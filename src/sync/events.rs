//! Warnings on the objects that Git could not bring into the cluster.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::cluster::{Cluster, EffectKind, Writer, call, explain};
use crate::model::{Digest, ObjectRef, told_within};

/// Reason of the Warning on an object that Git has and the cluster did not get.
const SYNC_FAILED: &str = "SyncFailed";
/// Longest message that the API server takes in an Event.
const MESSAGE_MAX: usize = 1024;

/// Emits a Warning once per object and message; the name is made of both, so a repeat is refused by the server. Events are
/// for people: that one cannot be written is logged and nothing more.
pub(super) async fn warn(cluster: &Cluster, writer: &Writer, id: &ObjectRef, version: &str, message: &str) {
    let namespace = id.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let now = cluster.clock().stamp();
    let api_version = if id.group.is_empty() { version.to_owned() } else { format!("{}/{version}", id.group) };
    let name = event_name(id, message);
    let event = Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some(api_version),
            kind: Some(id.kind.clone()),
            name: Some(id.name.clone()),
            namespace: id.namespace.clone(),
            uid: uid(cluster, id, version).await,
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(SYNC_FAILED.to_owned()),
        message: Some(told_within(message, MESSAGE_MAX)),
        source: Some(EventSource { component: Some("serin".to_owned()), ..EventSource::default() }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(cluster.client(), &namespace);
    let key = format!("warning on {id}");
    match writer.effect(EffectKind::Event, &key, api.create(&PostParams::default(), &event)).await {
        Ok(_) => {}
        Err(error) if error.is_already_exists() => {}
        // Where there is no namespace there is nobody to tell; the warning is in the log and in the status.
        Err(error) if error.is_not_found() => tracing::debug!(object = %id, "no namespace for its event"),
        Err(error) => {
            tracing::warn!(object = %id, error = %explain(&error), "failed to emit an event")
        }
    }
}

/// The live object's uid: `kubectl describe` shows the Events with the uid of what it describes, and no others.
async fn uid(cluster: &Cluster, id: &ObjectRef, version: &str) -> Option<String> {
    let resolved = cluster.resolve(&id.group, version, &id.kind).await.ok()?;
    let api = cluster.objects(&resolved, id.namespace.as_deref());
    call(&format!("read {id}"), api.get_metadata_opt(&id.name)).await.ok()??.metadata.uid
}

/// Made of object and message. Some kinds have names that an Event's cannot have (`system:reader`).
fn event_name(id: &ObjectRef, message: &str) -> String {
    /// Longest name of an object, less dot and digest.
    const NAME_MAX: usize = 253 - 1 - 8;
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = id.name.chars().map(allowed).take(NAME_MAX).collect();
    let name = name.split('.').map(|part| part.trim_matches('-')).filter(|part| !part.is_empty());
    let digest = Digest::of_canonical(format!("{id} {message}").as_bytes());
    name.chain([digest.short()]).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_names_that_events_can_have() {
        let named = |name: &str| {
            let id = ObjectRef { group: "".into(), kind: "Role".into(), namespace: None, name: name.into() };
            event_name(&id, "wrong").rsplit_once('.').map(|(name, _)| name.to_owned())
        };
        assert_eq!(named("app.v1").as_deref(), Some("app.v1"));
        assert_eq!(named("system:Reader:").as_deref(), Some("system-reader"));
        assert_eq!(named("::"), None);
    }
}
