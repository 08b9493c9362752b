//! What others do to the watched branch of a real repository while a release is under way.

use super::*;

fn orphan(repository: &git2::Repository, text: &str) -> git2::Oid {
    let blob = repository.blob(text.as_bytes()).unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    tree.insert("app.yaml", blob, 0o100_644).unwrap();
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let author = git2::Signature::now("someone", "someone@example.com").unwrap();
    repository.commit(None, &author, &author, "another history", &tree, &[]).unwrap()
}

#[tokio::test]
async fn a_forced_deleted_and_recreated_branch_costs_no_object_and_no_release() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repo.git");
    let repository = git2::Repository::init_bare(&path).unwrap();
    let all = |tag: &str| [NAMESPACE, CANARY, &deployment(tag), &config("a", "1")].join("---\n");
    commit_file(&repository, &all("1"));
    let first = commit_file(&repository, &all("2"));
    let mut world = World::new().await;
    let store = Store::open(folder.path().join("cache")).unwrap();
    let remote = Remote::new(path.to_str().unwrap(), Credentials::None).unwrap();
    world.source = Some(Arc::new(GitSource::new(store, remote, "main".parse().unwrap(), ".".parse().unwrap())));
    world.start();
    world.until("the first sync", |status| status.commit.as_ref() == Some(&first)).await;
    let stamp = world.annotation(REVISION).await;
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
    world.effects.take();

    // Another history with the same content: nothing is announced, what runs keeps its commit.
    let forced = orphan(&repository, &all("2"));
    repository.reference("refs/heads/main", forced, true, "force").unwrap();
    let commit = |id: git2::Oid| id.to_string().parse::<CommitId>().unwrap();
    world.until("the forced commit", |status| status.commit.as_ref() == Some(&commit(forced))).await;
    assert_eq!(world.effects.take(), Vec::<String>::new());
    assert_eq!((world.annotation(REVISION).await, world.annotation(PENDING).await), (stamp, None));

    // No branch: said, and nothing is deleted.
    repository.find_reference("refs/heads/main").unwrap().delete().unwrap();
    let status = world.until("the missing branch", |status| status.error.is_some()).await;
    assert!(status.error.unwrap().contains("has no branch `main`"));
    assert!(world.get("ConfigMap", "a").await.is_some() && world.get("Canary", "podinfo").await.is_some());
    assert_eq!(world.effects.take(), Vec::<String>::new());

    // There again, with another revision: announced, since a release is under way.
    let again = orphan(&repository, &all("3"));
    repository.reference("refs/heads/main", again, true, "recreate").unwrap();
    let status =
        world.until("the recreated branch", |status| status.commit.as_ref() == Some(&commit(again))).await;
    assert_eq!((status.error, status.waiting.len()), (None, 1));
    let pending: Revision = world.annotation(PENDING).await.unwrap().parse().unwrap();
    assert_eq!((pending.commit, world.image().await), (Some(commit(again)), "podinfo:2".to_owned()));
}
