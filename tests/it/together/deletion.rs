//! Deleting a Canary that Git still names: it comes back, and whatever failed or was being analysed does not serve meanwhile.

use std::sync::Arc;

use kube::api::DeleteParams;

use super::world::{World, refuses};

#[tokio::test(start_paused = true)]
async fn a_canary_that_comes_back_does_not_begin_with_what_failed() {
    let world = Arc::new(World::new("record").await);
    world.fails("3.1.1-errors-50").await;

    let witness = world.witness();
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let uid = api.get("podinfo").await.unwrap().metadata.uid;
    api.delete("podinfo", &DeleteParams::default()).await.unwrap();
    world
        .eventually("another Canary", async || {
            let canary = api.get_opt("podinfo").await.unwrap();
            canary.is_some_and(|canary| canary.metadata.uid != uid)
        })
        .await;
    world.canary("the refusal of what failed", refuses).await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    assert_eq!(witness.seen(), ["3.1.0".to_owned()].into(), "what failed served users");
}
