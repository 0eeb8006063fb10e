//! What an operator sees from outside: log lines, metrics, health.
//!
//! Secrets have no `Debug` that shows them, and digits and bodies are not logged at any level: there is nothing here that could filter them out later.

mod health;
mod log;
mod metrics;

pub use health::{Health, Heart, Part};
pub use log::{Format, start};
pub use metrics::{DELIVERY_LAG_BUCKETS, Metrics, Outcomes, Total};
