//! The announcing annotations that wait to be written.

use std::collections::BTreeMap;

use purelb_core::name::ServiceKey;
use purelb_core::node::Announcement;
use purelb_k8s::Leisurely;
use tokio::time::Instant;

/// How many announcements may be under way at once.
const AT_ONCE: usize = 8;

/// Writes that inform people of what this node holds. They wait for each other and, where there are many,
/// for calmer times, so that they hold up neither the lease nor the allocator's answers.
#[derive(Debug)]
pub(super) struct Announcements {
    /// In the order in which they were first asked for.
    order: Leisurely<ServiceKey>,
    /// At most one for each Service.
    waiting: BTreeMap<ServiceKey, Announcement>,
    under_way: usize,
}

impl Announcements {
    pub(super) fn new() -> Self {
        Self { order: Leisurely::new(), waiting: BTreeMap::new(), under_way: 0 }
    }

    /// Puts a write at the end. One of the same Service that has not begun is no longer needed: the same
    /// version's is added to, another version's is replaced, for it would be refused.
    pub(super) fn push(&mut self, write: Announcement) {
        match self.waiting.get_mut(&write.service) {
            Some(waiting) if waiting.version == write.version => {
                waiting.values.extend(write.values)
            }
            Some(waiting) => *waiting = write,
            None => {
                self.order.push(write.service.clone());
                self.waiting.insert(write.service.clone(), write);
            }
        }
    }

    /// The next write that may begin now; it is under way until it is [`done`](Self::done).
    pub(super) fn begin(&mut self) -> Option<Announcement> {
        if self.under_way >= AT_ONCE {
            return None;
        }
        let write = self.waiting.remove(&self.order.pop()?)?;
        self.under_way += 1;
        Some(write)
    }

    /// One that was under way was answered.
    pub(super) fn done(&mut self) {
        self.under_way -= 1;
    }

    /// When the next may begin, if not too many are under way.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.due().filter(|_| self.under_way < AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use purelb_core::host::Family;
    use tokio::time::sleep_until;

    use super::*;

    fn write(service: u32, version: &str, family: Family, value: &str) -> Announcement {
        Announcement {
            service: ServiceKey::new("default", format!("web-{service}")),
            version: version.into(),
            values: [(family, Some(value.to_owned()))].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_write_of_a_service_is_the_only_one() {
        let mut announcements = Announcements::new();
        announcements.push(write(1, "1", Family::V4, "old"));
        announcements.push(write(2, "2", Family::V4, "other"));
        announcements.push(write(1, "3", Family::V6, "six"));
        announcements.push(write(1, "3", Family::V4, "four"));
        let mut both = write(1, "3", Family::V4, "four");
        both.values.insert(Family::V6, Some("six".to_owned()));
        assert_eq!(announcements.begin(), Some(both));
        assert_eq!(announcements.begin(), Some(write(2, "2", Family::V4, "other")));
        assert_eq!(announcements.begin(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_under_way_at_once_and_the_rest_goes_at_leisure() {
        let (burst, interval) = (Leisurely::<ServiceKey>::BURST, Leisurely::<ServiceKey>::INTERVAL);
        let mut announcements = Announcements::new();
        let count = 2 * burst;
        for service in 0..count {
            announcements.push(write(service, "1", Family::V4, "a"));
        }
        let start = Instant::now();
        let mut begun = std::iter::from_fn(|| announcements.begin()).count();
        assert_eq!((begun, announcements.due()), (AT_ONCE, None));
        while begun < count as usize {
            announcements.done();
            if let Some(due) = announcements.due() {
                sleep_until(due).await;
            }
            begun += usize::from(announcements.begin().is_some());
        }
        assert!(start.elapsed() >= interval * burst, "{:?}", start.elapsed());
        assert_eq!(announcements.due(), None);
    }
}
