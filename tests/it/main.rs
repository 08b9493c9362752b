//! The one integration binary; a file per subject.

mod apiserver;
mod cluster;
mod controller;
mod daemon;
mod deploy;
mod git;
mod house;
mod loadtest;
mod sandbox;
mod scenarios;
mod support;
mod sync;
mod traffic;
