//! Keeping the store small while it runs: every fetch leaves a pack and every commit of ours some loose objects.
//!
//! After a fetch or push that brought something, small packs and loose objects become one pack as soon as there are too many
//! of them. That is cheap, since large packs are left alone, and loses nothing, since nobody asks what is still reachable.
//! What nobody needs any more goes when the store has grown far beyond what a fresh fetch took: then it is made again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use git2::{Oid, Repository};

use super::error::GitError;
use super::store::Inner;

/// Small packs after which they are joined: a lookup goes through all of them.
pub(super) const PACKS_MAX: usize = 50;
/// Loose objects after which they are packed; each is a file.
pub(super) const LOOSE_MAX: usize = 2_000;
/// Size of a pack that is left alone, in bytes, and of what is packed at a time: joining more would be felt.
const JOINED_BYTES_MAX: u64 = 32 << 20;
/// The store is made again when it is this many times as large as after its first fetch ...
const GROWTH_MAX: u64 = 2;
/// ... and has grown by more than this, in bytes.
const GROWTH_ROOM: u64 = 256 << 20;
/// File with the size after the first fetch.
const BASE: &str = "serin-cache-base";
/// Mode of packs.
const PACK_MODE: u32 = 0o444;

/// A file of the store that holds objects.
#[derive(Debug)]
struct Piece {
    path: PathBuf,
    bytes: u64,
}

/// What the store consists of.
#[derive(Debug, Default)]
struct Pieces {
    packs: Vec<Piece>,
    loose: Vec<(Oid, Piece)>,
}

impl Pieces {
    fn look(objects: &Path) -> Self {
        let mut pieces = Self::default();
        for (name, entry) in entries(objects) {
            if name == "pack" {
                let files = entries(&entry).map(|(_, path)| path);
                let packs = files.filter(|path| path.extension().is_some_and(|ending| ending == "pack"));
                pieces.packs.extend(packs.map(Piece::of));
            } else if name.len() == 2 {
                let found = entries(&entry).filter_map(|(rest, path)| {
                    Some((Oid::from_str(&format!("{name}{rest}")).ok()?, Piece::of(path)))
                });
                pieces.loose.extend(found);
            }
        }
        pieces
    }

    fn bytes(&self) -> u64 {
        self.packs.iter().chain(self.loose.iter().map(|(_, piece)| piece)).map(|piece| piece.bytes).sum()
    }

    /// The packs that are worth joining, smallest first, as many as one go takes.
    fn small(&self) -> Vec<&Piece> {
        let mut small: Vec<&Piece> = self.packs.iter().filter(|pack| pack.bytes < JOINED_BYTES_MAX).collect();
        small.sort_by_key(|pack| pack.bytes);
        let mut total = 0;
        small.retain(|pack| {
            total += pack.bytes;
            total <= JOINED_BYTES_MAX
        });
        small
    }

    fn are_many(&self) -> bool {
        self.loose.len() > LOOSE_MAX
            || self.packs.iter().filter(|pack| pack.bytes < JOINED_BYTES_MAX).count() > PACKS_MAX
    }
}

impl Piece {
    fn of(path: PathBuf) -> Self {
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        Self { path, bytes }
    }
}

impl Inner {
    /// Joins what has become many pieces. What cannot be tidied stays as it is: the store works all the same.
    pub(super) fn tidy(&self) {
        let objects = self.dir.join("objects");
        let pieces = Pieces::look(&objects);
        let base = self.base(&pieces);
        if !pieces.are_many() {
            return;
        }
        if pieces.bytes() > base.saturating_mul(GROWTH_MAX).saturating_add(GROWTH_ROOM) {
            tracing::info!(git.cache = %self.dir.display(), bytes = pieces.bytes(), "the git cache has grown: it is made again");
            self.abandon();
            return;
        }
        let _alone = self.folder.write().unwrap_or_else(PoisonError::into_inner);
        match Repository::open_bare(&self.dir)
            .map_err(|error| self.local(&error))
            .and_then(|repo| self.join(&repo, &pieces))
        {
            Ok(joined) => tracing::debug!(git.cache = %self.dir.display(), joined, "the git cache is tidied"),
            Err(error) => tracing::warn!(git.cache = %self.dir.display(), "failed to tidy the git cache: {error}"),
        }
    }

    /// The store's size after its first fetch: now, if that has just been.
    fn base(&self, pieces: &Pieces) -> u64 {
        let file = self.dir.join(BASE);
        let known = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        known.unwrap_or_else(|| {
            let bytes = pieces.bytes();
            if let Err(error) = fs::write(&file, bytes.to_string()) {
                tracing::debug!(git.cache = %self.dir.display(), %error, "the git cache's size is not remembered");
            }
            bytes
        })
    }

    /// One pack of many pieces; how many. The pieces go when it is there.
    fn join(&self, repo: &Repository, pieces: &Pieces) -> Result<usize, GitError> {
        let failed = |error: git2::Error| self.local(&error);
        let packs = pieces.small();
        let mut builder = repo.packbuilder().map_err(failed)?;
        for pack in &packs {
            let ids = fs::read(pack.path.with_extension("idx")).ok().and_then(|index| ids(&index));
            let ids = ids.ok_or_else(|| self.damage(format!("{} has no index", pack.path.display())))?;
            for id in ids {
                builder.insert_object(id, None).map_err(failed)?;
            }
        }
        for (id, _) in &pieces.loose {
            builder.insert_object(*id, None).map_err(failed)?;
        }
        builder.write(&self.dir.join("objects/pack"), PACK_MODE).map_err(failed)?;
        let written = builder.name().ok().flatten().map(|name| format!("pack-{name}.pack"));
        let gone = packs.iter().filter(|pack| {
            let name = pack.path.file_name().and_then(|name| name.to_str());
            name.is_some() && name != written.as_deref()
        });
        for pack in gone {
            // The index last: without it nobody looks for the pack, without the pack nobody can use it.
            for ending in ["pack", "idx", "rev"] {
                remove(&pack.path.with_extension(ending));
            }
        }
        for (_, piece) in &pieces.loose {
            remove(&piece.path);
        }
        Ok(packs.len() + pieces.loose.len())
    }
}

/// The ids in a pack's index of version 2.
fn ids(index: &[u8]) -> Option<Vec<Oid>> {
    const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
    const FANOUT: usize = 256 * 4;
    const ID: usize = 20;
    let rest = index.strip_prefix(&MAGIC)?;
    let (fanout, rest) = rest.split_at_checked(FANOUT)?;
    let count = fanout.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))?;
    let bytes = rest.get(..usize::try_from(count).ok()?.checked_mul(ID)?)?;
    bytes.chunks_exact(ID).map(|id| Oid::from_bytes(id).ok()).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

/// A piece that cannot be removed is only in the way.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "a piece of the git cache stays");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use git2::ObjectType;

    use super::super::store::Store;
    use super::*;

    /// A store with this many packs of one object each and as many loose objects; their ids.
    fn store(folder: &Path, packs: usize, loose: usize) -> (Store, Vec<Oid>) {
        let store = Store::open(folder.join("cache")).unwrap();
        let repo = Repository::open_bare(store.dir()).unwrap();
        let other = Repository::init_bare(folder.join("other")).unwrap();
        let mut ids = Vec::new();
        for number in 0..packs {
            let id = other.blob(format!("packed {number}").as_bytes()).unwrap();
            let mut builder = other.packbuilder().unwrap();
            builder.insert_object(id, None).unwrap();
            let mut pack = git2::Buf::new();
            builder.write_buf(&mut pack).unwrap();
            let odb = repo.odb().unwrap();
            let mut writer = odb.packwriter().unwrap();
            writer.write_all(&pack).unwrap();
            writer.commit().unwrap();
            ids.push(id);
        }
        ids.extend((0..loose).map(|number| repo.blob(format!("loose {number}").as_bytes()).unwrap()));
        (store, ids)
    }

    fn pieces(store: &Store) -> (usize, usize) {
        let pieces = Pieces::look(&store.dir().join("objects"));
        (pieces.packs.len(), pieces.loose.len())
    }

    #[test]
    fn many_pieces_become_one_and_every_object_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ids) = store(folder.path(), PACKS_MAX + 1, 10);
        store.inner().tidy();
        assert_eq!(pieces(&store), (1, 0));
        let repo = Repository::open_bare(store.dir()).unwrap();
        for id in &ids {
            assert_eq!(repo.odb().unwrap().read(*id).unwrap().kind(), ObjectType::Blob);
        }
        store.inner().tidy();
        assert_eq!(pieces(&store), (1, 0), "nothing more to do");
    }

    #[test]
    fn loose_objects_are_packed_and_a_few_of_anything_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (few, _) = store(&folder.path().join("few"), PACKS_MAX, 3);
        few.inner().tidy();
        assert_eq!(pieces(&few), (PACKS_MAX, 3));
        let (many, _) = store(&folder.path().join("many"), 2, LOOSE_MAX + 1);
        many.inner().tidy();
        assert_eq!(pieces(&many), (1, 0));
    }

    #[test]
    fn a_store_that_has_grown_far_beyond_its_first_fetch_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = store(folder.path(), PACKS_MAX + 1, 0);
        fs::write(store.dir().join(BASE), "1000").unwrap();
        let large = fs::File::create(store.dir().join("objects/pack/pack-large.pack")).unwrap();
        large.set_len(GROWTH_ROOM + 2_000).unwrap();
        store.inner().tidy();
        store.inner().heal().unwrap();
        assert_eq!(pieces(&store), (0, 0));
        assert!(!store.dir().join(BASE).exists(), "the next fetch measures anew");
    }

    #[test]
    fn an_index_that_is_cut_off_has_no_ids() {
        assert_eq!(ids(b"\xfftOc\0\0\0\x02\0\0"), None);
        assert_eq!(ids(b"something else"), None);
    }
}
