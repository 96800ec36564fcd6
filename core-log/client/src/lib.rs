//! Producer, consumer, group membership and admin over TCP or in-process transport.
