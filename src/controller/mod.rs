//! The loop: caches -> observe -> release::step -> persist -> act.
