//! The bare object store: probe, fetch, snapshot, commit, push with compare and swap.
