//! Runs connectors: task scheduling, offsets, retries, dead letters, REST.
