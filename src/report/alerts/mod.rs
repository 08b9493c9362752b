//! Alerts: what happens to releases, told to the chats that Canaries name.
//!
//! A projection like the others: [`news`] (pure) says from a Canary's status what there is to tell, an annotation on the Canary how
//! far it was told ([`ALERTED`](crate::api::annotations::ALERTED)); what is between is sent, and then acknowledged. So nothing is told twice across a
//! restart but what was sent in the moment of a crash. Canaries that name no alert cost nothing.

mod news;
mod run;

pub use news::{WatchedAlerts, watched_alerts};
pub use run::{Context, run};
