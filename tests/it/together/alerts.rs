//! Chats are told of releases, once each, whatever happens to the daemon or the chat meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use serin::alert::{Chat, Chats, Message, SendError};
use serin::http::{Address, AddressError};
use serin::sandbox::repository::FileEdit;

use super::world::World;

/// A chat that writes down what it is told.
#[derive(Default)]
pub(super) struct Room {
    away: AtomicBool,
    said: Mutex<Vec<String>>,
}

impl Room {
    pub(super) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

impl Chats for Room {
    fn address(&self, text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }

    fn send<'a>(&'a self, chat: &'a Chat, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>> {
        let answer = if self.away.load(Ordering::Relaxed) {
            Err(SendError::Away("it does not answer".to_owned()))
        } else {
            let token = chat.token.as_deref().unwrap_or("no token");
            self.said.lock().unwrap().push(format!("{token}: {}: {}", message.about, message.text));
            Ok(())
        };
        Box::pin(std::future::ready(answer))
    }
}

/// The example's Canary with an alert, its provider and the provider's Secret.
fn with_alerts(world: &World, severity: &str) -> Vec<FileEdit> {
    let canary = world.repository.read("main", "canary.yaml").unwrap();
    let alerts = format!("    alerts: [{{name: ops, severity: {severity}, providerRef: {{name: slack}}}}]\n");
    let canary = canary.replacen("    metrics:\n", &format!("{alerts}    metrics:\n"), 1);
    assert!(canary.contains("alerts:"));
    let provider = "apiVersion: flagger.app/v1beta1\nkind: AlertProvider\nmetadata: {name: slack, namespace: test}\nspec: {type: slack, \
                    channel: ops, secretRef: {name: slack}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: slack, namespace: \
                    test}\nstringData: {address: 'https://chat.example.com/hook', token: t}\n";
    let file = |path: &str, content: String| FileEdit { path: path.to_owned(), content };
    vec![file("canary.yaml", canary), file("alerts.yaml", provider.to_owned())]
}

#[tokio::test(start_paused = true)]
async fn a_chat_hears_of_each_release_once() {
    let mut world = World::with_chats().await;
    let room = world.room.clone().unwrap();
    world.repository.commit("Alerts", |_| Ok(with_alerts(&world, "info"))).unwrap();
    world.push("3.1.1");
    world.reaches("Succeeded").await;
    world.quiet().await;
    assert!(room.said().is_empty(), "the Secret's owner has not consented");
    let consent = json!({"metadata": {"annotations": {"serin.dev/send-to-alerts": "true"}}});
    let secrets = world.api("", "v1", "Secret").await;
    secrets.patch("slack", &PatchParams::default(), &Patch::Merge(&consent)).await.unwrap();
    let told = async || !room.said().is_empty();
    world.eventually("what happened meanwhile", told).await;
    let promoted = "t: podinfo.test: Canary analysis completed successfully, promotion finished.";
    assert_eq!(room.said().last().unwrap(), promoted);

    // A chat that is away is told when it is back, and a restart tells nothing again.
    room.away.store(true, Ordering::Relaxed);
    let before = room.said().len();
    world.failing(true);
    world.push("3.1.2-errors-50");
    world.reaches("Failed").await;
    world.stop();
    world.start();
    world.quiet().await;
    assert_eq!(room.said().len(), before);
    room.away.store(false, Ordering::Relaxed);
    let told = async || room.said().len() > before;
    world.eventually("the failure", told).await;
    world.stop();
    world.start();
    world.quiet().await;
    let after = room.said().split_off(before);
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(after[0].starts_with("t: podinfo.test: Canary failed and is rolled back: "), "{after:?}");
}
