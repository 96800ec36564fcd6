//! Consumer groups of the newer protocol (KIP-848): the coordinator assigns partitions, members reconcile.
//!
//! A group lives in its records alone. A request makes a [`draft::Draft`] of the group, every change of which is a
//! record applied to the draft and written down; replaying the records makes the same changes to the durable group.
//! What is volatile (timers, the version of the topics that was last looked at) can be lost without harm.
//!
//! ```text
//! member:  joins (epoch 0) -> target assignment -> reconciliation
//!                                                  UNREVOKED_PARTITIONS   must give up partitions first
//!                                                  UNRELEASED_PARTITIONS  waits for partitions of others
//!                                                  STABLE                 owns its target
//! group:   Empty | Assigning (group epoch ahead of the target's) | Reconciling | Stable
//! ```
//!
//! It refuses topics it does not know: a subscription to one is kept and takes effect when the topic appears.
//!
//! # Invariants
//! - CG-1: a partition is assigned to a member only after every other member gave it up (acknowledged or fenced).
//! - CG-2: epochs of group, target and members never go down while the group exists, except that a member's own
//!   becomes 0 when it joins anew and -2 while a static member is away; member epoch <= target epoch <= group epoch.
//! - CG-3: a draft after its records equals the durable group after replaying them.
//!
//! # Reading order
//! [`partitions`], [`group`], [`records`], [`draft`], [`reconcile`], [`assignor`], [`regexes`], then the requests:
//! [`heartbeat`], [`leave`], [`classic`], [`migrate`], [`describe`].

pub(crate) mod assignor;
pub(crate) mod classic;
pub(crate) mod describe;
pub(crate) mod draft;
pub(crate) mod group;
pub(crate) mod heartbeat;
pub(crate) mod leave;
pub(crate) mod migrate;
pub(crate) mod partitions;
pub(crate) mod reconcile;
pub(crate) mod records;
pub(crate) mod regexes;
pub(crate) mod settle;

/// The epoch a member joins with.
pub(crate) const JOINING_EPOCH: i32 = 0;
/// The epoch of a member that leaves for good.
pub(crate) const LEAVING_EPOCH: i32 = -1;
/// The epoch of a static member that will be back.
pub(crate) const STATIC_LEAVING_EPOCH: i32 = -2;
