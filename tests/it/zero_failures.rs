//! No request fails because of a release. Constant load goes through ingress and forward proxy while revisions are
//! promoted, superseded and rolled back; every attempt to reach a pod counts, and nobody retries.
//!
//! The mesh takes changed routes and endpoints up to half a second late or a whole one, answers take long enough to span
//! every switch, and pods of the canary refuse connections the moment they are deleted.
//!
//! That a test which sees no failed request is not blind is shown by turning off what prevents them, the drain and the
//! time that a canary's endpoints get before they are sent traffic, and by a mesh that learns of the switch only when all
//! is done: then requests fail, every time.
//!
//! Where pods have a capacity (`load`), neither side alone carries all users, and each rule that sees to it is turned off once.

mod drain;
mod load;
mod manifests;
mod renamed;
mod users;
mod ways;
mod world;
