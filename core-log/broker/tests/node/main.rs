//! A whole node, spoken to in frames over TCP and through its in-process door.

mod basics;
mod groups;
mod hostile;
mod support;
