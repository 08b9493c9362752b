//! Git -> cluster: trigger, plan, apply, inventory, prune, health.
