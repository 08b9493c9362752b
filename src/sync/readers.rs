//! Who still reads what is gone from Git: from those that live or are wanted to what they need. PURE.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::references;
use crate::model::ObjectRef;

/// Something that lives, or that Git wants, and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) id: ObjectRef,
    pub(super) references: BTreeSet<ObjectRef>,
}

/// Which of the objects that are to go somebody still reads, each with one who does.
///
/// `going` are their live forms: what is kept is a reader itself. What an account may do is kept with the account, but only
/// with one that is kept: a binding that is taken from an account which stays in Git is meant to go.
pub(super) fn still_read(
    readers: &[Reader],
    going: &BTreeMap<ObjectRef, Value>,
) -> BTreeMap<ObjectRef, ObjectRef> {
    reached(readers, going, &needs)
}

/// What a kept object needs of those that are to go.
type Needs<'a> = &'a dyn Fn(&ObjectRef, &Value, &BTreeMap<ObjectRef, Value>) -> BTreeSet<ObjectRef>;

fn reached(
    readers: &[Reader],
    going: &BTreeMap<ObjectRef, Value>,
    needs: Needs<'_>,
) -> BTreeMap<ObjectRef, ObjectRef> {
    let mut kept: BTreeMap<ObjectRef, ObjectRef> = BTreeMap::new();
    let mut next: Vec<(ObjectRef, ObjectRef)> = Vec::new();
    for Reader { id, references } in readers {
        next.extend(
            references.iter().filter(|named| going.contains_key(named)).map(|it| (it.clone(), id.clone())),
        );
    }
    while let Some((id, reader)) = next.pop() {
        let Some(live) = going.get(&id).filter(|_| !kept.contains_key(&id)) else {
            continue;
        };
        kept.insert(id.clone(), reader);
        next.extend(needs(&id, live, going).into_iter().map(|needed| (needed, id.clone())));
    }
    kept
}

/// What it names, and what gives an account its rights.
fn needs(id: &ObjectRef, live: &Value, going: &BTreeMap<ObjectRef, Value>) -> BTreeSet<ObjectRef> {
    let named = references::references(live);
    let needed = |(other, body): &(&ObjectRef, &Value)| {
        named.contains(other) || references::binds(body, id) || references::aggregates(live, body)
    };
    going.iter().filter(needed).map(|(other, _)| other.clone()).collect()
}

#[cfg(test)]
mod tests;
