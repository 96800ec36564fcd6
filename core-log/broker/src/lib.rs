//! A node: listeners, request handlers, purgatory, metadata quorum.
