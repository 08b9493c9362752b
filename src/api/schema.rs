//! Schema pieces that cannot be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An object of which the API server keeps every field: Istio's own schema is the judge of what is inside.
pub(super) fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// A list of such objects.
pub(super) fn open_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

/// A port number or name.
pub(super) fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// Flagger types its counters `number`; an integer schema would refuse what its schema accepts.
pub(super) fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "number", "nullable": true})
}

/// A word that YAML may read as a switch.
pub(super) fn word_or_switch(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// A list of such numbers.
pub(super) fn numbers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "number"}})
}

/// A moment in RFC 3339.
pub(super) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "nullable": true})
}
