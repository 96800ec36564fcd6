//! Runs topologies: workers, RocksDB stores, changelogs, restore.
