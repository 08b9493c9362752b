//! Webhook-driven acceptance and load tests.
