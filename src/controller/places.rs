//! Places for slow questions, shared fairly: a namespace whose webhooks take a day each holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A number of places, of which a namespace takes one more only while it has fewer than half of those that are free. One
/// that is alone gets a third of all, the next a third of the rest, and whoever comes to a crowd still finds a place (the
/// dynamic threshold by which switches share their buffers).
#[derive(Debug)]
pub(super) struct Places {
    inner: Mutex<Inner>,
    freed: Notify,
}

#[derive(Debug)]
struct Inner {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    namespace: Arc<str>,
}

impl Places {
    /// So many places.
    pub(super) fn new(total: usize) -> Self {
        Self { inner: Mutex::new(Inner { free: total, held: HashMap::new() }), freed: Notify::new() }
    }

    /// Waits for a place. Cancel safe.
    pub(super) async fn take(&self, namespace: &str) -> Place<'_> {
        let namespace: Arc<str> = namespace.into();
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if self.inner.lock().unwrap_or_else(PoisonError::into_inner).take(&namespace) {
                return Place { places: self, namespace };
            }
            freed.await;
        }
    }

    fn give_back(&self, namespace: &str) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).give_back(namespace);
        // What is free now is another namespace's as well as this one's: all look again.
        self.freed.notify_waiters();
    }
}

impl Inner {
    fn take(&mut self, namespace: &Arc<str>) -> bool {
        let held = self.held.get(namespace).copied().unwrap_or(0);
        if self.free == 0 || held >= self.free.div_ceil(2) {
            return false;
        }
        self.free -= 1;
        self.held.insert(namespace.clone(), held + 1);
        true
    }

    fn give_back(&mut self, namespace: &str) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(namespace) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(namespace);
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.give_back(&self.namespace);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Takes all that a namespace can get now.
    fn take_all<'a>(places: &'a Places, namespace: &str) -> Vec<Place<'a>> {
        std::iter::from_fn(|| places.take(namespace).now_or_never()).collect()
    }

    #[test]
    fn a_crowd_of_one_namespace_leaves_room_for_many_others() {
        let places = Places::new(64);
        let crowd = take_all(&places, "crowd");
        assert!(crowd.len() >= 20 && crowd.len() <= 32, "{}", crowd.len());
        let mut others = Vec::new();
        for other in 0..10 {
            let namespace = format!("other-{other}");
            let place = places.take(&namespace).now_or_never();
            assert!(
                place.is_some(),
                "{namespace} finds no place beside {} taken ones",
                crowd.len() + others.len()
            );
            others.extend(place);
        }
        assert!(places.take("crowd").now_or_never().is_none());
        drop((crowd, others));
        assert_eq!(places.inner.lock().unwrap().free, 64);
        assert!(places.inner.lock().unwrap().held.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_served_when_a_place_is_given_back_also_after_others_stopped_waiting() {
        let places = Arc::new(Places::new(1));
        let first = places.take("a").await;
        let (gone, waiting) = (places.clone(), places.clone());
        let gone = tokio::spawn(async move { drop(gone.take("b").await) });
        let waiting = tokio::spawn(async move { drop(waiting.take("c").await) });
        tokio::task::yield_now().await;
        gone.abort();
        drop(first);
        waiting.await.unwrap();
        assert_eq!(places.inner.lock().unwrap().free, 1);
    }
}
