//! Upsert sink for PostgreSQL and SQLite, through sqlx.
//!
//! A record becomes a row: the fields of its JSON value are the columns. With a primary key, from the record's
//! key or from fields of its value, a row is upserted, so that a record delivered twice leaves one row. Tables are
//! created and widened on request; nothing is ever dropped or narrowed.
//!
//! A batch travels as one JSON text per table and set of fields, which the database itself turns into rows: no
//! limit of parameters, and the same statement for one row and for a thousand. A batch is one transaction.
//!
//! # Invariants
//! - Within a batch the last record of a key wins, as it would one by one.
//! - An upsert touches exactly the fields the record has; an absent field keeps what the row holds.
//! - A record the database refuses (a text for a number, a null key) is rejected alone; the others are written.
//! - The URL, which may hold a password, appears in no message.
//!
//! Reading order: [`settings`], [`rows`], [`dialect`], [`store`], [`sink`].

pub mod dialect;
pub mod rows;
pub mod settings;
pub mod sink;
pub mod store;

pub use settings::DatabaseSettings;
pub use sink::DatabaseSink;
