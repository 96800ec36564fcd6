//! The streams DSL, topology, operators, windows, stores and test driver.
