//! A whole node, spoken to in frames over TCP and through its in-process door.

mod acls;
mod admin;
mod auth;
mod authorization;
mod basics;
mod compaction;
mod compression;
mod connections;
mod consumer_groups;
mod disk;
mod fetch;
mod fetch_files;
mod fetch_sessions;
mod groups;
mod hostile;
mod offsets_topic;
mod produce;
mod quotas;
mod scram_users;
mod support;
mod windows;
