//! Integration tests: git. Real `git` on the other side, over file, http and ssh.

#[path = "git/attacks.rs"]
mod attacks;
#[path = "git/crashed.rs"]
mod crashed;
#[path = "git/denied.rs"]
mod denied;
#[path = "git/forged.rs"]
mod forged;
#[path = "git/http.rs"]
mod http;
#[path = "git/proposed.rs"]
mod proposed;
#[path = "git/rendered.rs"]
mod rendered;
#[path = "git/report.rs"]
mod report;
#[path = "git/signed.rs"]
mod signed;
mod snapshots;
#[path = "git/store.rs"]
mod store;
#[path = "git/world.rs"]
pub(crate) mod world;
