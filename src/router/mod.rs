//! What shifts traffic weight: one file per router behind one trait.
