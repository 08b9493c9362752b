//! Probes and metrics.
