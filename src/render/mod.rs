//! Kustomize overlays become the objects that they make.
//!
//! A kustomization that only lists files is a selection, and those files are applied as they are. Any other is rendered by the
//! `kustomize` or `kubectl` that is on the machine, over an export of exactly the files that it names: whatever it names must
//! be in the commit, so nothing is fetched, and the program gets no `git`, no way to a network and a limit of time and output.
//! What cannot be rendered is held as a whole, with the reason. A rollback edits the file that holds
//! the value, and proves by rendering again what that makes.

mod collect;
mod edit;
mod program;
mod snapshot;

pub use collect::{Made, Refusal, examine};
pub use program::Program;
pub use snapshot::{PutRight, Renderer};
