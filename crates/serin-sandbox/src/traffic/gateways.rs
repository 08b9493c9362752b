//! The part of a gateway controller that people see: the status of Gateways and HTTPRoutes. It stands in for the controllers
//! of all classes.

use futures::{StreamExt, pin_mut};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::routes::{Change, Kind, Routes, Said};
use super::watch::{OF_GATEWAYS, Watched, changes_of, served};

/// Changes that may wait.
const CHANGES_MAX: usize = 1_024;
/// Who writes.
const MANAGER: &str = "serin-sandbox";

/// A change, and how its kind is served.
type News = (Change, ApiResource);

/// Says of all Gateways and HTTPRoutes what becomes of them, until shutdown. Waits for their definitions.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (sender, receiver) = mpsc::channel(CHANGES_MAX);
    for watched in &OF_GATEWAYS {
        let feed = feed(client.clone(), watched, sender.clone());
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(feed).await });
    }
    drop(sender);
    shutdown.run_until_cancelled(tell(client, receiver)).await;
}

async fn feed(client: Client, watched: &'static Watched, sender: mpsc::Sender<News>) {
    let resource = served(&client, watched).await;
    let changes = changes_of(client, watched.kind, &resource);
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        if sender.send((change, resource.clone())).await.is_err() {
            return;
        }
    }
}

async fn tell(client: Client, mut receiver: mpsc::Receiver<News>) {
    let mut routes = Routes::default();
    let mut resources = Resources::default();
    while let Some(news) = receiver.recv().await {
        take(&mut routes, &mut resources, news);
        while let Ok(more) = receiver.try_recv() {
            take(&mut routes, &mut resources, more);
        }
        for Said { kind, key, status, live } in routes.said() {
            let status = dated(status, &live);
            let Some(resource) = resources.of(kind).filter(|_| !is_said(&status, &live)) else { continue };
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, resource);
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({"status": status}));
            if let Err(error) = api.patch_status(&key.name, &params, &patch).await {
                // It is gone, or the next change says it again.
                tracing::debug!(%key, %error, "a status is not written");
            }
        }
    }
}

/// How the two kinds are served.
#[derive(Debug, Default)]
struct Resources {
    listeners: Option<ApiResource>,
    routes: Option<ApiResource>,
}

impl Resources {
    fn of(&self, kind: Kind) -> Option<&ApiResource> {
        match kind {
            Kind::Listeners => self.listeners.as_ref(),
            Kind::HttpRoute => self.routes.as_ref(),
            Kind::VirtualService | Kind::Gateway | Kind::Service | Kind::EndpointSlice => None,
        }
    }
}

fn take(routes: &mut Routes, resources: &mut Resources, (change, resource): News) {
    let (Change::Apply(kind, _) | Change::Delete(kind, _) | Change::Replace(kind, _)) = &change;
    match kind {
        Kind::Listeners => resources.listeners = Some(resource),
        Kind::HttpRoute => resources.routes = Some(resource),
        Kind::VirtualService | Kind::Gateway | Kind::Service | Kind::EndpointSlice => {}
    }
    routes.apply(change);
}

/// The status with the times at which its conditions became what they are.
fn dated(mut status: Value, live: &Value) -> Value {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string();
    date(&mut status, live, &now);
    status
}

/// Everywhere in `status` that has a list of conditions.
fn date(status: &mut Value, live: &Value, now: &str) {
    match status {
        Value::Object(fields) => {
            if fields.contains_key("observedGeneration") && fields.contains_key("reason") {
                let same = live["status"] == fields["status"];
                let since = live["lastTransitionTime"].as_str().filter(|_| same).unwrap_or(now);
                fields.insert("lastTransitionTime".to_owned(), json!(since));
                return;
            }
            for (name, value) in fields {
                date(value, &live[name.as_str()], now);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                date(item, &live[index], now);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether the object has this status, whatever else it has.
fn is_said(status: &Value, live: &Value) -> bool {
    status.as_object().into_iter().flatten().all(|(field, value)| live.get(field) == Some(value))
}
