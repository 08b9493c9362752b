//! The end of CustomResourceDefinitions: their objects go first.

use serde_json::{Value, json};

use super::Server;
use super::json::now;
use super::kinds::DEFINITIONS;
use super::store::{Key, Write};
use super::write::Refused;

/// Finalizer of a definition whose objects are being deleted.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Attempts to release a definition against other writers; each of those also ends here.
const ATTEMPTS_MAX: u32 = 8;

/// Whether the definition called `name` has objects. Definitions are named like the storage of their objects.
pub(super) fn has_instances(server: &Server, name: &str) -> bool {
    !server.store.list(name, None).objects.is_empty()
}

/// Deletes the objects of a definition; it goes with the last of them.
pub(super) fn delete_instances(server: &Server, name: &str) -> Result<(), Refused> {
    for (key, object) in server.store.list(name, None).objects {
        let mut gone = Value::clone(&object);
        let held = gone["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let write = if held {
            gone["metadata"]["deletionTimestamp"] = json!(now());
            gone["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            Write::Put(gone)
        } else {
            Write::Remove(gone)
        };
        server.store.commit(name, &key, Some(&object), write).map_err(|_lost| Refused::Lost)?;
    }
    release(server, name);
    Ok(())
}

/// Lets a deleted definition go once it has no objects.
pub(super) fn release(server: &Server, name: &str) {
    let key = Key { namespace: String::new(), name: name.to_owned() };
    for _ in 0..ATTEMPTS_MAX {
        let Some(stored) = server.store.get(DEFINITIONS, &key) else { return };
        if stored["metadata"].get("deletionTimestamp").is_none() || has_instances(server, name) {
            return;
        }
        let mut last = Value::clone(&stored);
        if let Some(list) = last["metadata"]["finalizers"].as_array_mut() {
            list.retain(|finalizer| finalizer != CLEANUP);
        }
        let free = last["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let write = if free { Write::Remove(last) } else { Write::Put(last) };
        if server.store.commit(DEFINITIONS, &key, Some(&stored), write).is_ok() {
            server.refresh_catalog();
            return;
        }
    }
}
