//! What the allocator remembers of a Service beside what the ledger knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocator::answer::{Answer, Branding};
use crate::allocator::attempt::Attempt;
use crate::allocator::notice::{Cause, How, Remark};
use crate::allocator::refusal::Refusal;
use crate::allocator::sidecar::Asked;
use crate::name::{GroupName, Uid};
use crate::service::Service;
use crate::time::Tick;

/// What the allocator remembers of a Service.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) uid: Uid,
    /// Whether it is a `LoadBalancer`, as last taken in.
    pub(crate) is_load_balancer: bool,
    /// Its addresses are ours to write, even if its annotations should get lost.
    pub(crate) is_managed: bool,
    /// It is somebody else's affair, as last taken in: what it shows is taken, and not ours to write.
    pub(crate) is_foreign: bool,
    /// What it showed of our annotations, as last taken in.
    pub(crate) branding: Branding,
    /// Its deletion had begun, as last taken in.
    pub(crate) is_deleting: bool,
    /// The addresses that the API is known to show.
    pub(crate) told: Vec<IpAddr>,
    /// How addresses that are not told of yet were chosen.
    pub(crate) how: BTreeMap<IpAddr, How>,
    /// Since when the API does not show what it is to have.
    pub(crate) lacks_since: Option<Tick>,
    /// Why addresses are leaving.
    pub(crate) causes: BTreeMap<IpAddr, Cause>,
    /// Boxed: it is large, and seldom there.
    pub(crate) refusal: Option<Box<Refusal>>,
    pub(crate) remarks: BTreeSet<Remark>,
    /// It waits for something of this group to become free.
    pub(crate) waits_for: Option<GroupName>,
    /// What was asked of a sidecar for it.
    pub(crate) asked: Option<Box<Asked>>,
    pub(crate) answer: Attempt<Answer>,
    pub(crate) re_evaluated: Attempt<()>,
}

impl Record {
    pub(crate) fn new(service: &Service) -> Self {
        Self {
            uid: service.uid.clone(),
            is_load_balancer: service.is_load_balancer,
            is_managed: false,
            is_foreign: false,
            branding: Branding::default(),
            is_deleting: false,
            told: Vec::new(),
            how: BTreeMap::new(),
            lacks_since: None,
            causes: BTreeMap::new(),
            refusal: None,
            remarks: BTreeSet::new(),
            waits_for: None,
            asked: None,
            answer: Attempt::default(),
            re_evaluated: Attempt::default(),
        }
    }

    /// Notes whether the API shows all that it is to have, as far as is known.
    pub(crate) fn note_lack(&mut self, shows: bool, now: Tick) {
        let is_asking = self.asked.as_ref().is_some_and(|asked| asked.is_pending());
        if !shows || is_asking {
            self.lacks_since.get_or_insert(now);
        } else if !self.answer.is_outstanding() {
            // The watch may show an answer before its write is known to have been accepted.
            self.lacks_since = None;
        }
    }
}
