//! Consumer-group coordination as a replayed state machine.
