//! The model checker: every interleaving of a small cluster, with the real rules.

pub(crate) mod scene;
pub(crate) mod search;
pub(crate) mod world;
