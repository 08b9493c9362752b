//! What Git may cost. Everything that a remote sends, or that somebody pushed, is bounded before it is taken in.

/// Bytes that one fetch may receive: a first fetch of a big repository with its history; and of one pack on the disk.
pub(super) const FETCH_BYTES_MAX: usize = 2 << 30;
/// Objects that one fetch may bring: the largest public repositories have ten million, of configuration none has one.
pub(super) const FETCH_OBJECTS_MAX: usize = 5_000_000;
/// Bytes of one folder: 100,000 names and more.
pub(super) const TREE_BYTES_MAX: usize = 8 << 20;
/// Entries of folders looked at in one reading, whatever they are: a repository of a million files is walked once.
pub(super) const ENTRIES_MAX: usize = 2_000_000;
/// Bytes of a commit that is read: its message, mostly.
pub(super) const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Bytes of one commit's message that are kept where many are looked through.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a symlink's target that is followed to tell what it leads to: Linux has no longer paths.
pub(super) const LINK_BYTES_MAX: usize = 4 << 10;
/// Bytes of an object that is read again to tell damage from what was pushed like that.
pub(super) const CHECKED_BYTES_MAX: usize = 16 << 20;
