//! The one integration binary; a file per subject.

mod apiserver;
mod controller;
mod daemon;
mod git;
mod loadtest;
mod sandbox;
mod scenarios;
mod support;
mod sync;
