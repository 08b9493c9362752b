//! What is left when a process dies: the cluster, the repository, what webhooks were called, and the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use git2::{Oid, Repository as Bare};
use jiff::Timestamp;
use serin::cluster::{Clock, EffectKind, EffectProbe, ProbeFuture};
use serin::sandbox::apiserver::{ApiServer, Backup};
use serin::sandbox::repository::Repository;
use tempfile::TempDir;

/// Calls of webhooks so far, by key.
pub(super) type Calls = Arc<Mutex<Vec<String>>>;

/// Everything that survives a process.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) server: Backup,
    pub(super) calls: Vec<String>,
    pub(super) now: Timestamp,
    refs: Vec<(String, Oid)>,
    /// A repository that holds these refs' objects, and later ones, which nobody sees.
    objects: Arc<TempDir>,
}

impl Image {
    /// An empty cluster and an empty repository.
    pub(super) fn new() -> Self {
        let objects = Arc::new(tempfile::tempdir().unwrap());
        Repository::open_or_init(&repository_in(&objects)).unwrap();
        Self {
            server: ApiServer::new().backup(),
            calls: Vec::new(),
            now: Timestamp::now(),
            refs: Vec::new(),
            objects,
        }
    }

    /// The world as it is, if it is not as it was in this image.
    fn follow(&self, world: &Outside) -> Option<Self> {
        let (now, refs) = (world.clock.now(), refs(&world.repository()));
        let calls = world.calls.lock().unwrap().clone();
        let same = self.now == now
            && self.refs == refs
            && self.calls == calls
            && self.server.version() == world.server.version();
        (!same).then(|| Self { server: world.server.backup(), calls, now, refs, objects: world.folder.clone() })
    }
}

/// The living outside, begun from an image.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) server: ApiServer,
    pub(super) calls: Calls,
    pub(super) clock: Clock,
    folder: Arc<TempDir>,
}

impl Outside {
    /// Wakes an image to life; needs a tokio runtime, whose clock goes on from the image's time.
    pub(super) fn from(image: &Image) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        copy_folder(&repository_in(&image.objects), &repository_in(&folder));
        let bare = Bare::open_bare(repository_in(&folder)).unwrap();
        for (name, _) in refs(&repository_in(&folder)) {
            bare.find_reference(&name).unwrap().delete().unwrap();
        }
        for (name, oid) in &image.refs {
            bare.reference(name, *oid, true, "as it was").unwrap();
        }
        Self {
            server: image.server.restore(),
            calls: Arc::new(Mutex::new(image.calls.clone())),
            clock: Clock::following(image.now),
            folder,
        }
    }

    pub(super) fn repository(&self) -> PathBuf {
        repository_in(&self.folder)
    }

    /// The daemon's own folder: new in every run, as a cache that may be lost at any time.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// As it is now.
    pub(super) fn image(&self) -> Image {
        Image {
            server: self.server.backup(),
            calls: self.calls.lock().unwrap().clone(),
            now: self.clock.now(),
            refs: refs(&self.repository()),
            objects: self.folder.clone(),
        }
    }
}

fn repository_in(folder: &TempDir) -> PathBuf {
    folder.path().join("repo.git")
}

fn refs(repository: &Path) -> Vec<(String, Oid)> {
    let bare = Bare::open_bare(repository).unwrap();
    let mut refs: Vec<(String, Oid)> = bare
        .references()
        .unwrap()
        .filter_map(|reference| {
            let reference = reference.unwrap();
            Some((reference.name().unwrap().to_owned(), reference.target()?))
        })
        .collect();
    refs.sort();
    refs
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &copy);
        } else {
            fs::copy(entry.path(), copy).unwrap();
        }
    }
}

/// A moment at which a process may die.
pub(super) struct Point {
    pub(super) label: String,
    pub(super) image: Image,
}

/// Keeps an image of the outside before and after every effect.
pub(super) struct Recorder {
    world: Outside,
    seen: Mutex<Seen>,
}

struct Seen {
    effects: usize,
    last: Image,
    points: Vec<Point>,
}

impl Recorder {
    pub(super) fn new(world: Outside) -> Self {
        let seen = Seen { effects: 0, last: world.image(), points: Vec::new() };
        Self { world, seen: Mutex::new(seen) }
    }

    /// How many effects there were, and the moments that differ.
    pub(super) fn take(&self) -> (usize, Vec<Point>) {
        let mut seen = self.seen.lock().unwrap();
        (seen.effects, std::mem::take(&mut seen.points))
    }

    fn look(&self, when: &str, kind: EffectKind, key: &str, effects: usize) {
        let mut seen = self.seen.lock().unwrap();
        seen.effects += effects;
        if let Some(image) = seen.last.follow(&self.world) {
            seen.last = image.clone();
            let label = format!("{when} effect {}: {kind:?} {key}", seen.effects);
            seen.points.push(Point { label, image });
        }
    }
}

impl EffectProbe for Recorder {
    fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
        self.look("before", kind, key, 1);
        Box::pin(std::future::ready(()))
    }

    fn after<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
        self.look("after", kind, key, 0);
        Box::pin(std::future::ready(()))
    }
}
