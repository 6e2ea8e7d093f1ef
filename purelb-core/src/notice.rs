//! What people are told: one value that log lines, Events and metrics all print.

use std::fmt;

use crate::name::{Namespace, ServiceKey, Uid};

/// Something worth telling.
pub trait Notice: fmt::Display {
    /// How much it matters.
    fn level(&self) -> Level;

    /// The stable reason of the Event to raise, if it is one for an Event. The text of an Event
    /// holds nothing that changes from one time to the next, so that equal ones aggregate.
    fn reason(&self) -> Option<&'static str>;

    /// What it is about.
    fn regarding(&self) -> Regarding;
}

/// How much something matters. Errors and warnings make Warning Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something does not work as it should until somebody acts.
    Error,
    /// Something is not as it should be.
    Warning,
    /// What an operator should know.
    Info,
    /// Detail.
    Debug,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regarding {
    /// An LBNodeAgent.
    Agent {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: String,
        /// Its uid.
        uid: Uid,
    },
    /// The node itself.
    Node,
    /// A Service.
    Service {
        /// Which.
        key: ServiceKey,
        /// Its uid.
        uid: Uid,
    },
}
