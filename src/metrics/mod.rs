//! Metric providers: one file each behind one trait.
