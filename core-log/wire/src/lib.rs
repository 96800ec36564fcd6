//! Kafka requests and responses: one schema table, a bounded zero-copy codec.
