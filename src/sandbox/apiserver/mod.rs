//! The embedded Kubernetes API server: a `tower::Service`; the socket is a wrapper.
