//! SQL over topics through DataFusion, and the Postgres wire.
