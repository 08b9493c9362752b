//! What every cluster has from the start.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::super::Server;
use super::super::call::{Call, Part};
use super::super::kinds::NAMESPACES;
use super::super::request::{FieldValidation, Form, Options, Target};
use super::super::write::{Ownership, insert};

/// Namespaces of every cluster; `kube-system`'s uid identifies it.
const INITIAL_NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates them.
pub(in super::super) fn create_initial_objects(server: &Arc<Server>) {
    let catalog = server.catalog();
    let Some(resource) = catalog.find("", "v1", NAMESPACES).cloned() else { return };
    for name in INITIAL_NAMESPACES {
        let mut call = Call {
            server: Arc::clone(server),
            resource: Arc::clone(&resource),
            target: Target::default(),
            part: Part::Main,
            options: no_options(),
            form: Form::Json,
            body: Bytes::new(),
            content_type: String::new(),
            user_agent: "kube-apiserver".to_owned(),
            user: None,
            warnings: Vec::new(),
        };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if let Err(refused) = insert(&mut call, object, Ownership::Changes) {
            tracing::error!(namespace = %name, ?refused, "failed to create an initial namespace");
        }
    }
}

fn no_options() -> Options {
    Options {
        watch: false,
        label_selector: String::new(),
        field_selector: String::new(),
        resource_version: String::new(),
        resource_version_match: String::new(),
        send_initial_events: None,
        allow_bookmarks: false,
        timeout_seconds: None,
        limit: None,
        continue_token: String::new(),
        dry_run: false,
        field_manager: String::new(),
        field_validation: FieldValidation::Ignore,
        force: false,
        grace_period_seconds: None,
        propagation_policy: None,
        orphan_dependents: None,
        include_object: String::new(),
    }
}
