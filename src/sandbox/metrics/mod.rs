//! A Prometheus-compatible query endpoint over what the traffic proxy counted.
