//! The safety rules broken on purpose, one at a time: what proves that a checker would see it.
//!
//! [`membership`](crate::membership) has rules that keep two nodes from holding one address. A
//! simulator or a model checker that finds nothing shows little, unless it is shown to find something
//! as soon as one rule is missing. Each [`Mutation`] takes one away.
//!
//! Where the crate has its feature `mutations`, `agent.mutate(Mutation::NoEcho)` takes one from an
//! agent. Without the feature nothing can be switched: the question whether a rule is
//! broken is a constant, and the compiler removes it. With it an agent still keeps every rule until
//! somebody calls `mutate`. Two mutations are the host's to play, because the rule is kept outside of
//! the machine; [`Mutation::is_of_the_host`] names them.

use std::fmt;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// What was seen is published though what it costs is still on an interface (rule 3).
    AcknowledgeBeforeLettingGo,
    /// A lease that is deleted counts no more at once (rule 4).
    DeletionIsLeaving,
    /// The seconds of a kernel lifetime are computed when it is decided, not when the kernel is asked
    /// (rule 1). The host's to play.
    EarlyLifetime,
    /// A renewal that comes back after the right was lost starts it again (rule 1).
    LateRenewalRevives,
    /// A subnet leaves the lease while an address of it is still on an interface (rule 4).
    LeaveBeforeWithdrawal,
    /// A joiner takes its addresses as soon as its join came back (rule 3).
    NoAcknowledgement,
    /// A peer has expired once its duration is over by the observer's clock (rule 2).
    NoEcho,
    /// A starter publishes its subnets at once, without having watched for a duration.
    NoObservation,
    /// Observers subtract the margin from a peer's duration as the holder does (rules 1 to 3).
    ObserversSubtractMargin,
    /// The API takes every write, whatever it was conditional on (rule 5). The host's to play.
    UnconditionalWrites,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AcknowledgeBeforeLettingGo,
        Self::DeletionIsLeaving,
        Self::EarlyLifetime,
        Self::LateRenewalRevives,
        Self::LeaveBeforeWithdrawal,
        Self::NoAcknowledgement,
        Self::NoEcho,
        Self::NoObservation,
        Self::ObserversSubtractMargin,
        Self::UnconditionalWrites,
    ];

    /// Its name, as options of programs spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeLettingGo => "acknowledge-before-letting-go",
            Self::DeletionIsLeaving => "deletion-is-leaving",
            Self::EarlyLifetime => "early-lifetime",
            Self::LateRenewalRevives => "late-renewal-revives",
            Self::LeaveBeforeWithdrawal => "leave-before-withdrawal",
            Self::NoAcknowledgement => "no-acknowledgement",
            Self::NoEcho => "no-echo",
            Self::NoObservation => "no-observation",
            Self::ObserversSubtractMargin => "observers-subtract-margin",
            Self::UnconditionalWrites => "unconditional-writes",
        }
    }

    /// Whether the machine itself keeps the rule in spite of it, and its host has to break it: the
    /// one that asks the kernel, or the API.
    pub const fn is_of_the_host(self) -> bool {
        matches!(self, Self::EarlyLifetime | Self::UnconditionalWrites)
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The mutation that a machine has, if any. Of no size and always none without the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Mutant(#[cfg(feature = "mutations")] Option<Mutation>);

#[cfg(feature = "mutations")]
impl Mutant {
    pub(crate) const fn with(mutation: Mutation) -> Self {
        Self(Some(mutation))
    }

    /// Whether this rule is broken.
    pub(crate) fn is(self, mutation: Mutation) -> bool {
        self.0 == Some(mutation)
    }
}

#[cfg(not(feature = "mutations"))]
impl Mutant {
    /// Whether this rule is broken: never.
    pub(crate) const fn is(self, _: Mutation) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Mutation::ALL.map(Mutation::name).into();
        assert_eq!(names.len(), Mutation::ALL.len());
    }
}
