//! YAML documents become objects: parsing as kubectl reads, canonical digest, semantic diff, edit in place.
