//! Argo Rollouts' `Rollout` (argoproj.io/v1alpha1), the second kind that the engine releases.
//!
//! Pure: what a Rollout says becomes a [`Policy`](crate::release::Policy) ([`spec`], [`mod@compile`]), its ReplicaSets become the
//! sides of a release ([`sets`]), its Services and its VirtualService are read and pointed ([`services`],
//! [`virtual_service`]), people's patches on its status become requests ([`commands`]), and the engine's state becomes the
//! status that Argo's tools read ([`status`]). Whatever is not carried out yet is refused by its field.

pub mod commands;
mod compile;
pub mod destination_rule;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod keys;
pub mod services;
pub mod sets;
pub mod spec;
pub mod status;
pub mod stored;
pub mod takeover;
pub mod virtual_service;

pub use compile::{Pace, compile};
