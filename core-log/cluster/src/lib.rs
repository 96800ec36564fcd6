//! The metadata image and the controller's decisions.
