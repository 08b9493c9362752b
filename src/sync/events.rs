//! Warnings on the objects that Git could not bring into the cluster.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;

use crate::cluster::{Cluster, EffectKind, Writer, explain};
use crate::model::{Digest, ObjectRef};

/// Reason of the Warning on an object that Git has and the cluster did not get.
pub const SYNC_FAILED: &str = "SyncFailed";
/// Longest message that the API server takes in an Event.
const MESSAGE_MAX: usize = 1024;

/// Emits a Warning once per object and message; the name is made of both, so a repeat is refused by the server. Events are
/// for people: that one cannot be written is logged and nothing more.
pub(super) async fn warn(cluster: &Cluster, writer: &Writer, id: &ObjectRef, version: &str, message: &str) {
    let namespace = id.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let now = Time(jiff::Timestamp::now());
    let api_version = if id.group.is_empty() { version.to_owned() } else { format!("{}/{version}", id.group) };
    let name = format!("{}.{}", id.name, Digest::of_canonical(format!("{id} {message}").as_bytes()).short());
    let event = Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some(api_version),
            kind: Some(id.kind.clone()),
            name: Some(id.name.clone()),
            namespace: id.namespace.clone(),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(SYNC_FAILED.to_owned()),
        message: Some(message.chars().take(MESSAGE_MAX).collect()),
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
        Err(error) => {
            tracing::warn!(object = %id, error = %explain(&error), "failed to emit an event")
        }
    }
}
