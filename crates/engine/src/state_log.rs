//! The containers' durable records.
