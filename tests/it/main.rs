//! The one integration binary; a file per subject.

mod apiserver;
mod controller;
mod git;
mod loadtest;
mod sandbox;
mod scenarios;
mod sync;
mod traffic;
