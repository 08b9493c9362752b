//! The sandbox's controllers against an API server: rollouts, autoscalers, endpoints, garbage, namespaces; and the whole world.
//!
//! The API server is the embedded one. `SERIN_SANDBOX_KUBECONFIG` names a real one without a controller manager instead
//! (run with `--test-threads=1` then: each test brings its own controllers).

mod deployments;
mod objects;
mod served;
mod world;
