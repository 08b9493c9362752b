//! Outgoing webhooks and gates.
