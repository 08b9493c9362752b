//! Integration tests: loadtest.
