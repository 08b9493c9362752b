//! Projections of state: Git record, rollback commit, events.
