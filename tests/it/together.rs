//! Everything of the daemon at once, where the fault would lie between the rooms: sync, engine and record against the
//! embedded cluster and a bare repository, under paused time.

mod alerts;
mod calendar;
mod configs;
mod deletion;
mod environments;
mod examples;
mod rebuild;
mod statuses;
mod world;
