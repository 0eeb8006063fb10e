//! What people of an account work through: tickets and tasks, as an account has them from the start.

use super::{Object, Property};

fn object(group: &str, properties: &[(&str, &str, &[&str])]) -> Object {
    let property = |(name, kind, options): &(&str, &str, &[&str])| {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let property =
            Property { kind: (*kind).to_owned(), field: "text".into(), label: String::new(), group: String::new(), unique: false, options };
        ((*name).to_owned(), property)
    };
    Object::of(group, properties.iter().map(property))
}

/// Tickets, with the stages of the support pipeline.
pub(super) fn tickets() -> Object {
    object(
        "ticketinformation",
        &[
            ("subject", "string", &[]),
            ("content", "string", &[]),
            ("hs_pipeline", "enumeration", &["0"]),
            ("hs_pipeline_stage", "enumeration", &["1", "2", "3", "4"]),
            ("hs_ticket_priority", "enumeration", &["LOW", "MEDIUM", "HIGH", "URGENT"]),
            ("hubspot_owner_id", "number", &[]),
        ],
    )
}

/// Tasks; when one is due is required.
pub(super) fn tasks() -> Object {
    object(
        "task",
        &[
            ("hs_timestamp", "datetime", &[]),
            ("hs_task_subject", "string", &[]),
            ("hs_task_body", "string", &[]),
            ("hs_task_status", "enumeration", &["NOT_STARTED", "IN_PROGRESS", "WAITING", "COMPLETED", "DEFERRED"]),
            ("hs_task_priority", "enumeration", &["NONE", "LOW", "MEDIUM", "HIGH"]),
            ("hs_task_type", "enumeration", &["CALL", "EMAIL", "LINKED_IN", "MEETING", "TODO"]),
            ("hubspot_owner_id", "number", &[]),
        ],
    )
}
