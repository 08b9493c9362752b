//! What the tests of this room are about.

use crate::model::{NamespacedName, ObjectRef};

pub(super) fn canary() -> NamespacedName {
    NamespacedName::new("test", "podinfo")
}

pub(super) fn target() -> ObjectRef {
    ObjectRef {
        group: "apps".into(),
        kind: "Deployment".into(),
        namespace: Some("test".into()),
        name: "podinfo".into(),
    }
}
