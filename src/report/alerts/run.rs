//! The loop: news to chats, then the acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::news::{News, Told, WatchedAlerts, hears};
use crate::alert::{Chat, Chats, Message, Product};
use crate::api::annotations::{ALERTED, LEND_TO, SEND_TO_ALERTS};
use crate::api::{Alert, AlertProvider, AlertProviderSpec, Canary};
use crate::cluster::{
    Cluster, EffectKind, Lender, Listener, NotLent, Purpose, Reflected, Said, WriteError, Writer, call, explain,
    lends_to,
};
use crate::model::{NamespacedName, after};
use crate::report::events::Now;

/// Older news is not told any more: after a night without a chat nobody wants the night's alerts.
const NEWS: SignedDuration = SignedDuration::from_hours(1);
/// Wait after an alert could not be delivered; doubled each time.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
/// Longest such wait.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// What only time changes is looked at this often.
const LOOK: Duration = Duration::from_secs(300);
/// Canaries told of at a time: one chat that hangs holds up no others.
const PARALLEL: usize = 8;
/// Longest time of one delivery, with what is read for it.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);
/// What a Secret is wanted for.
const CONSENT: Purpose = Purpose { annotation: SEND_TO_ALERTS, whom: "chats" };

/// What the loop works with.
pub struct Context {
    /// The cluster.
    pub cluster: Cluster,
    /// `cluster.name`.
    pub cluster_name: String,
    /// The door for writes and calls.
    pub writer: Writer,
    /// The Canaries.
    pub canaries: Reflected<Option<WatchedAlerts>>,
    /// Reads providers' Secrets.
    pub lender: Lender,
    /// Delivers messages.
    pub chats: Arc<dyn Chats>,
    /// What time it is.
    pub now: Now,
}

/// Tells alerts until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let serve = async {
        context.writer.claim().acquired().await;
        context.canaries.ready().await;
        let mut listener = context.canaries.changes();
        let mut tries = BTreeMap::new();
        loop {
            let wait = turn(&context, &mut tries).await;
            heard(&mut listener, wait).await;
        }
    };
    shutdown.run_until_cancelled(serve).await;
}

async fn heard(listener: &mut Listener, wait: Duration) {
    tokio::select! {
        () = listener.heard() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// What was tried of a Canary's oldest news.
#[derive(Debug, Default)]
struct Tried {
    told: Option<Told>,
    /// Alerts that have it.
    sent: BTreeSet<String>,
    failures: u32,
    not_before: Option<Timestamp>,
    said: Said,
}

/// One look; how long there is nothing to do, if nothing happens.
async fn turn(context: &Context, tries: &mut BTreeMap<NamespacedName, Tried>) -> Duration {
    let now = (context.now)();
    let oldest = now.checked_sub(NEWS).unwrap_or(Timestamp::MIN);
    let all: BTreeMap<NamespacedName, WatchedAlerts> = context
        .canaries
        .all()
        .into_iter()
        .filter_map(|(key, canary)| Some((key, Option::clone(&canary)?)))
        .filter(|(_, canary)| canary.untold(oldest).next().is_some())
        .collect();
    tries.retain(|key, _| all.contains_key(key));
    // Boxed by a named type: the compiler cannot see that a stream of borrowing async blocks is `Send`.
    let tellings: Vec<BoxFuture<'_, (NamespacedName, Tried)>> = all
        .iter()
        .map(|(key, canary)| {
            let tried = tries.remove(key).unwrap_or_default();
            tell(context, (key, canary), tried, (now, oldest)).boxed()
        })
        .collect();
    let told: Vec<_> = stream::iter(tellings).buffer_unordered(PARALLEL).collect().await;
    tries.extend(told);
    let next = tries.values().filter_map(|tried| tried.not_before).min();
    next.map_or(LOOK, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default().min(LOOK))
}

/// Tells a Canary's news, oldest first, until one cannot be told.
async fn tell(
    context: &Context,
    (key, canary): (&NamespacedName, &WatchedAlerts),
    mut tried: Tried,
    (now, oldest): (Timestamp, Timestamp),
) -> (NamespacedName, Tried) {
    if tried.not_before.is_some_and(|time| time > now) {
        return (key.clone(), tried);
    }
    for news in canary.untold(oldest) {
        if tried.told != Some(news.told) {
            tried = Tried { told: Some(news.told), said: tried.said, ..Tried::default() };
        }
        let failed = tell_one(context, key, canary, news, &mut tried.sent).await;
        let failed = match failed {
            None => acknowledge(context, key, news.told).await.err(),
            failed => failed,
        };
        if let Some(words) = failed {
            if tried.said.is_news(&words) {
                tracing::warn!(canary = %key, "an alert of Canary {key} is not told yet: {words}");
            }
            let wait = AGAIN_FIRST.saturating_mul(1 << tried.failures.min(10)).min(AGAIN_MAX);
            tried.failures = tried.failures.saturating_add(1);
            tried.not_before = Some(after(now, wait));
            return (key.clone(), tried);
        }
        tried.said.forget();
    }
    // The acknowledgement comes by the watch.
    tried.not_before = Some(after(now, AGAIN_FIRST));
    (key.clone(), tried)
}

/// Tells one piece of news to all that hear it and do not have it; why not, if one does not.
async fn tell_one(
    context: &Context,
    key: &NamespacedName,
    canary: &WatchedAlerts,
    news: &News,
    sent: &mut BTreeSet<String>,
) -> Option<String> {
    let mut message = news.message.clone();
    message.fields.insert(0, ("Cluster".to_owned(), context.cluster_name.clone()));
    let mut failed = None;
    for alert in canary.alerts.iter().filter(|alert| hears(alert, news.message.severity)) {
        if sent.contains(&alert.name) {
            continue;
        }
        match deliver(context, key, alert, &message).await {
            Ok(()) => {
                sent.insert(alert.name.clone());
            }
            Err(words) => failed = Some(format!("{}: {words}", alert.name)),
        }
    }
    failed
}

async fn deliver(
    context: &Context,
    canary: &NamespacedName,
    alert: &Alert,
    message: &Message,
) -> Result<(), String> {
    let label = format!("alert {} of {canary}", alert.name);
    let call = async {
        let chat = chat(context, canary, alert).await?;
        context.chats.send(&chat, message).await.map_err(|error| error.to_string())
    };
    let write = async { Ok::<_, WriteError>(call.await) };
    match context.writer.effect_within(DELIVERY_LIMIT, EffectKind::Alert, &label, write).await {
        Ok(answer) => answer,
        Err(error) => Err(explain(&error)),
    }
}

async fn acknowledge(context: &Context, key: &NamespacedName, told: Told) -> Result<(), String> {
    let api: Api<Canary> = Api::namespaced(context.cluster.client(), &key.namespace);
    let patch = json!({"metadata": {"annotations": {ALERTED: told.to_string()}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let write = api.patch_metadata(&key.name, &params, &patch);
    let written = context.writer.effect(EffectKind::Patch, &format!("Canary {key}"), write).await;
    written.map(|_| ()).map_err(|error| explain(&error))
}

/// Where an alert goes.
async fn chat(context: &Context, canary: &NamespacedName, alert: &Alert) -> Result<Chat, String> {
    let reference = &alert.provider_ref;
    let namespace = reference.namespace.as_deref().unwrap_or(&canary.namespace);
    let provider = NamespacedName::new(namespace, reference.name.clone());
    let api: Api<AlertProvider> = Api::namespaced(context.cluster.client(), namespace);
    let found = call(&format!("read AlertProvider {provider}"), api.get_opt(&provider.name)).await;
    let found = found
        .map_err(|error| explain(&error))?
        .ok_or_else(|| format!("AlertProvider {provider} does not exist"))?;
    let is_lent = lends_to(found.metadata.annotations.as_ref(), LEND_TO, &canary.namespace);
    if provider.namespace != canary.namespace && !is_lent {
        let NamespacedName { namespace, name } = &provider;
        return Err(format!(
            "AlertProvider {provider} is not lent to namespace {to}: \
             kubectl annotate alertprovider -n {namespace} {name} {LEND_TO}={to}",
            to = canary.namespace
        ));
    }
    let AlertProviderSpec { type_, channel, username, address, proxy, secret_ref } = found.spec;
    let product = Product::of(&type_).ok_or_else(|| {
        format!("AlertProvider {provider}: type `{type_}` is none of slack, msteams, discord, rocket, gchat")
    })?;
    let (mut address, mut token) = (address, None);
    if let Some(secret) = secret_ref {
        let secret = NamespacedName::new(provider.namespace.clone(), secret.name);
        let mut data = context.lender.secret(&secret, CONSENT).await.map_err(|error| match error {
            NotLent::Refused(words) | NotLent::Unknown(words) => words,
        })?;
        token = data.remove("token").map(|token| token.trim().to_owned());
        address = data.remove("address").or(address);
    }
    let address = address
        .ok_or_else(|| format!("AlertProvider {provider} has no address, and no Secret with the key `address`"))?;
    let address =
        context.chats.address(address.trim()).map_err(|error| format!("AlertProvider {provider}: {error}"))?;
    Ok(Chat { product, address, channel, username, token, proxy })
}
