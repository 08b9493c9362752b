//! Streams of what happens to objects, that repair themselves.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::Api;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Error, Event};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::explain::{api_status, is_not_found};

/// Pause before the first repetition; doubled with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Longest pause while the API server is in trouble. Nothing is decided while nothing is watched, so this bounds how long a
/// rollback waits after the API server has come back.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest pause where the API server is well and refuses: the kind is not served, or not for us.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);
/// HTTP status of what a role does not allow.
const FORBIDDEN: u16 = 403;

/// Lists and watches for ever. An error is yielded and repaired; the next event comes after a pause that grows while there
/// are only errors, within bounds that nobody has to wait long for.
pub fn watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let stream = Box::pin(watcher(api, config));
    futures::stream::unfold((stream, Pauses::default()), |(mut stream, mut pauses)| async move {
        if let Some(until) = pauses.until.take() {
            tokio::time::sleep_until(until).await;
        }
        let item = stream.next().await?;
        match &item {
            // That a list begins does not mean that it comes.
            Ok(Event::Init) => {}
            Ok(_) => pauses.failures = 0,
            Err(error) => pauses.failed(error, fastrand::f64()),
        }
        Some((item, (stream, pauses)))
    })
}

#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// `chance` from 0 to 1 spreads what would otherwise come from everywhere at once.
    fn failed(&mut self, error: &Error, chance: f64) {
        let longest = if is_refused(error) { REFUSED_PAUSE_MAX } else { PAUSE_MAX };
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(8)).min(longest);
        self.failures += 1;
        self.until = Some(Instant::now() + pause.mul_f64(0.75 + chance / 4.0));
    }
}

fn is_refused(error: &Error) -> bool {
    status_of(error).is_some_and(|status| is_not_found(status) || status.code == FORBIDDEN)
}

/// What the API server answered, if it did.
pub(super) fn status_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::core::Status> {
    api_status(error).or_else(|| status_of(error.source()?))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn pauses(error: &Error) -> Vec<u128> {
        let mut pauses = Pauses::default();
        (0..8)
            .map(|_| {
                pauses.failed(error, 1.0);
                (pauses.until.unwrap() - Instant::now()).as_millis()
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_comes_back_is_found_soon_and_one_that_refuses_is_not_pestered() {
        let away = kube::Error::Service(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        assert_eq!(pauses(&Error::InitialListFailed(away)), [500, 1000, 2000, 2000, 2000, 2000, 2000, 2000]);
        let status = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
        let missing = Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(pauses(&missing), [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    }
}
