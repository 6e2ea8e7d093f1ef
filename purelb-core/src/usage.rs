//! How full a group is: exact inside, as wide as a CRD field outside.

use crate::host::Family;
use crate::name::Namespace;

/// How many addresses of a group are taken and how many are left, per family.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usage {
    /// Of IPv4.
    pub v4: FamilyUsage,
    /// Of IPv6.
    pub v6: FamilyUsage,
}

impl Usage {
    /// That of one family.
    pub fn of(&self, family: Family) -> FamilyUsage {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Addresses taken, both families together. What `purelb_address_pool_addresses_in_use` shows.
    pub fn in_use(&self) -> u128 {
        self.v4.allocated.saturating_add(self.v6.allocated)
    }

    /// Addresses taken and left, both families together, or `None` if what is left is not known.
    /// What `purelb_address_pool_size` shows.
    pub fn size(&self) -> Option<u128> {
        let left = self.v4.available?.saturating_add(self.v6.available?);
        Some(left.saturating_add(self.in_use()))
    }
}

/// The usage of one family.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FamilyUsage {
    /// Addresses of the group's ranges that somebody has; one that is shared counts once.
    pub allocated: u128,
    /// Addresses that can still be given out. `None` where only a sidecar could know and does not
    /// say. Exact up to 2¹²⁸ − 1, where it saturates.
    pub available: Option<u128>,
}

/// `status` of a ServiceGroup: the fields of the custom resource, in their widths.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupStatus {
    /// `announce`: `Local` or `Remote`.
    pub announce: String,
    /// `ipam`: `Cluster`, or the name of the external provider.
    pub ipam: String,
    /// `addresses`: the ranges as typed, IPv4 first; for an external group what its sidecar shows.
    pub addresses: Vec<String>,
    /// `allocatedIPv4`.
    pub allocated_v4: i64,
    /// `allocatedIPv6`.
    pub allocated_v6: i64,
    /// `availableIPv4`; absent if not known, which is not the same as 0.
    pub available_v4: Option<i64>,
    /// `availableIPv6`.
    pub available_v6: Option<i64>,
    /// `boundNamespaces`: `spec.namespaces` as written, with order and repeats.
    pub bound_namespaces: Vec<Namespace>,
}

impl GroupStatus {
    /// Sets the four counts; a count past [`i64::MAX`] is [`i64::MAX`].
    #[must_use]
    pub fn with_usage(self, usage: &Usage) -> Self {
        Self {
            allocated_v4: saturated(usage.v4.allocated),
            allocated_v6: saturated(usage.v6.allocated),
            available_v4: usage.v4.available.map(saturated),
            available_v6: usage.v6.available.map(saturated),
            ..self
        }
    }
}

fn saturated(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_saturates_in_the_status_and_nowhere_before() {
        let v6 = FamilyUsage { allocated: 2, available: Some((1 << 64) - 2) };
        let usage = Usage { v4: FamilyUsage { allocated: 0, available: Some(0) }, v6 };
        assert_eq!(usage.size(), Some(1 << 64));
        let status = GroupStatus::default().with_usage(&usage);
        assert_eq!(status.available_v6, Some(i64::MAX));
        assert_eq!((status.allocated_v6, status.available_v4), (2, Some(0)));
    }

    #[test]
    fn unknown_capacity_is_not_zero_capacity() {
        let usage = Usage::default();
        assert_eq!(usage.size(), None);
        assert_eq!(GroupStatus::default().with_usage(&usage).available_v4, None);
    }
}
