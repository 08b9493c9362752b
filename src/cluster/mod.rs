//! Clients, discovery, compact caches, guarded writes and the lease.
