//! `serin sync`: somebody wants the repository looked at now. An annotation on the Source asks, its status answers.

use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt as _;
use kube::api::DynamicObject;

use crate::api::annotations::SYNC;
use crate::cluster::{SharedWatch, Wake};

/// What was asked for last.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Mutex<Option<String>>>);

impl Requests {
    /// The newest request.
    pub(super) fn newest(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is another one; from now on it is the newest.
    fn is_news(&self, request: Option<&String>) -> bool {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = request.is_some() && newest.as_ref() != request;
        if news {
            *newest = request.cloned();
        }
        news
    }
}

/// Rings whenever the Source of this name is asked for something new. What else changes on it is our own doing.
pub fn watched_requests(watch: &mut SharedWatch, name: &str, wake: Wake) -> Requests {
    let (requests, name) = (Requests::default(), name.to_owned());
    let asked = requests.clone();
    let convert = move |object: DynamicObject| {
        if object.name_any() == name && asked.is_news(object.annotations().get(SYNC)) {
            wake.ring();
        }
        Ok(())
    };
    watch.cache(convert, |_| {});
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_news_once() {
        let requests = Requests::default();
        let (one, other) = ("1".to_owned(), "2".to_owned());
        let news = [None, Some(&one), Some(&one), None, Some(&other)].map(|it| requests.is_news(it));
        assert_eq!(news, [false, true, false, false, true]);
        assert_eq!(requests.newest(), Some(other));
    }
}
