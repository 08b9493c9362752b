//! Commits get their statuses: the whole daemon against a forge that writes down what it is told.

use std::sync::Arc;

use serin::forge::CommitState;

use super::world::World;
use crate::support::forge::Remembering;

#[tokio::test(start_paused = true)]
async fn every_commit_has_its_status_whatever_becomes_of_it() {
    let forge = Arc::new(Remembering::default());
    let mut world = World::with_forge("commit", forge.clone()).await;
    let first = world.tip();
    world.eventually("the first commit is told", async || forge.last(&first) == Some(CommitState::Success)).await;

    // Two commits in one push: one is never released alone, the other is.
    world.push("3.1.1");
    let skipped = world.tip();
    world.push("3.1.2");
    let second = world.tip();
    world.has_weight(30).await;
    world.eventually("it is released", async || forge.last(&second) == Some(CommitState::Running)).await;
    assert!(forge.told(&second)[0].0.is_open(), "from the first moment on");
    world
        .eventually("progress is told", async || {
            forge.told(&second).iter().any(|(_, words)| words.contains("30%") || words.contains("50%"))
        })
        .await;
    world.eventually("it ends", async || forge.last(&second) == Some(CommitState::Success)).await;
    assert_eq!(forge.last(&skipped), Some(CommitState::Cancelled), "{:?}", forge.told(&skipped));

    // A failure while the forge is away, and a restart: told once, when it is back.
    forge.is_away(true);
    world.failing(true);
    world.push("3.1.3");
    let third = world.tip();
    world.reaches("Failed").await;
    world.start();
    world.failing(false);
    world.quiet().await;
    assert_eq!(forge.told(&third), []);
    forge.is_away(false);
    world.eventually("it is told", async || forge.last(&third) == Some(CommitState::Failure)).await;
    let rolled_back = world.tip();
    assert_ne!(rolled_back, third, "the rollback did not wait for the forge");
    world.eventually("so is the rollback", async || forge.last(&rolled_back) == Some(CommitState::Success)).await;

    // Nothing is told twice, not even after another restart.
    let all = forge.count();
    world.start();
    world.quiet().await;
    assert_eq!(forge.count(), all);
    for commit in [&first, &skipped, &second, &third, &rolled_back] {
        let told = forge.told(commit);
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
        assert!(!told.last().unwrap().0.is_open());
    }
    // What was told may leave the outbox.
    let canary = world.canary("the outbox empties", |canary| {
        canary["status"]["serin"]["state"]["outbox"].as_array().is_none_or(Vec::is_empty)
    });
    canary.await;
}
