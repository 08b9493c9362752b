//! One file per verb; `cli/run.rs` alone wires the rooms together.

pub mod crds;
