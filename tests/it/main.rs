//! The one integration binary; a file per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test's helpers fail the test, and a skipped one says so"
)]

mod apiserver;
mod cli;
mod cluster;
mod controller;
mod crash;
mod daemon;
mod deploy;
mod git;
mod house;
mod loadtest;
mod prometheus;
mod render;
mod rollouts;
mod sandbox;
mod schemas;
mod support;
mod sync;
mod together;
mod traffic;
mod zero_failures;
