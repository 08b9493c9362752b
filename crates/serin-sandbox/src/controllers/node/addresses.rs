//! Addresses of the pod network, each given to one pod at a time and taken again as late as possible.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// The pod network. Only the sandbox's own proxy routes to it.
pub(super) const NETWORK: &str = "10.42.0.0/16";
const BASE: u32 = u32::from_be_bytes([10, 42, 0, 0]);
const FIRST: u32 = 1;
const LAST: u32 = 0xfffe;

/// Which pod has which address.
#[derive(Debug)]
pub(super) struct Addresses {
    by_pod: HashMap<String, u32>,
    used: HashSet<u32>,
    next: u32,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { by_pod: HashMap::new(), used: HashSet::new(), next: FIRST }
    }

    /// The pod's address; a new one the first time. `None` if every address is in use.
    pub(super) fn give(&mut self, pod: &str) -> Option<Ipv4Addr> {
        if let Some(host) = self.by_pod.get(pod) {
            return Some(address(*host));
        }
        let candidates = (self.next..=LAST).chain(FIRST..self.next);
        let host = candidates.into_iter().find(|host| !self.used.contains(host))?;
        self.next = if host == LAST { FIRST } else { host + 1 };
        self.note(pod, host);
        Some(address(host))
    }

    /// Notes an address that a pod has already.
    pub(super) fn keep(&mut self, pod: &str, address: Ipv4Addr) {
        let host = u32::from(address).wrapping_sub(BASE);
        if (FIRST..=LAST).contains(&host) && !self.by_pod.contains_key(pod) {
            self.note(pod, host);
            self.next = self.next.max(if host == LAST { FIRST } else { host + 1 });
        }
    }

    /// The pod is gone.
    pub(super) fn take_back(&mut self, pod: &str) {
        if let Some(host) = self.by_pod.remove(pod) {
            self.used.remove(&host);
        }
    }

    fn note(&mut self, pod: &str, host: u32) {
        self.by_pod.insert(pod.to_owned(), host);
        self.used.insert(host);
    }
}

fn address(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(BASE + host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_not_reused_at_once() {
        let mut addresses = Addresses::new();
        addresses.keep("old", Ipv4Addr::new(10, 42, 0, 7));
        let first = addresses.give("a");
        assert_eq!(first, Some(Ipv4Addr::new(10, 42, 0, 8)));
        assert_eq!(addresses.give("a"), first);
        addresses.take_back("a");
        assert_eq!(addresses.give("b"), Some(Ipv4Addr::new(10, 42, 0, 9)));
    }

    #[test]
    fn a_full_network_says_so() {
        let mut addresses = Addresses::new();
        for pod in FIRST..=LAST {
            assert!(addresses.give(&pod.to_string()).is_some());
        }
        assert_eq!(addresses.give("one more"), None);
        addresses.take_back("5");
        assert_eq!(addresses.give("one more"), Some(Ipv4Addr::new(10, 42, 0, 5)));
    }
}
