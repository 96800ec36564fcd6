//! Upsert sink for Postgres and SQLite through sqlx.
