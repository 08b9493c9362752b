//! YAML documents become objects: parsing as kubectl reads, canonical digest, semantic diff, edit in place.
//!
//! Pure: text in, values out. Everything works on one tree of nodes with byte ranges (`tree`), so what is read, what a
//! caret points at and what an edit replaces are the same bytes.

mod budget;
mod cache;
mod chunk;
mod defaults;
mod describe;
mod digest;
mod error;
mod images;
mod kustomization;
mod lines;
mod padding;
mod pins;
mod position;
mod quantity;
mod quotes;
mod read;
mod scalar;
mod splice;
mod tree;

pub use cache::{FileCache, ParseCache};
pub use describe::describe_change;
pub use digest::{canonical_template, template_digest};
pub use error::{ManifestError, snippet};
pub use images::images;
pub use kustomization::{Kustomization, Reference, is_kustomization, is_kustomizes};
pub use lines::LineIndex;
pub use pins::{
    CONFIG_TRACKING, ConfigKind, ConfigName, Pin, Pinned, configs_read, copy_of, encoded_string_data, pinned,
    same_content, with_pins, without_copies,
};
pub use position::Locator;
pub use read::{Manifest, Parsed, parse, parse_each};
pub use splice::{SpliceError, restore, restore_at, value_at};
pub use tree::Position;
pub use tree::values;
