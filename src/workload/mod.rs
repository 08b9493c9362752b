//! The primary/canary pair and its autoscalers.
