//! The network side of a node: accepting, framing, answering in order.

pub(crate) mod congestion;
pub(crate) mod connection;
pub(crate) mod frames;
mod linger;
pub(crate) mod listener;
pub(crate) mod outlet;
pub(crate) mod responses;
pub(crate) mod send_buffer;
pub(crate) mod tls;
