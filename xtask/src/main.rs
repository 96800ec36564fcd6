//! The door for developers: demo, test, verify, fix.

fn main() {}
