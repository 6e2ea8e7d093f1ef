//! The kernel as facts and actions: watch it, and change it.

mod voice;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use purelb_core::host::{AddressKey, LinkIndex};
use purelb_core::kernel::{KernelAction, KernelError, KernelOutcome, Lifetime, NewAddress};
use purelb_core::time::{Origin, Tick};

use crate::clock::{self, Clock, Left};
use crate::ears::Ears;
use crate::encode;
use crate::mirror::{HostChange, Mirror};
use crate::packet::PacketSocket;
use crate::socket::{BATCH, Request, RequestSocket, errno_text};
use crate::watch::{Watch, WatchError};

/// The kernel of this host, as the network namespace of the thread that opened it shows it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use purelb_core::time::Origin;
/// use purelb_netlink::Kernel;
///
/// let mut kernel = Kernel::open(Origin::new(std::time::Instant::now()))?;
/// loop {
///     let fact = kernel.next().await?; // first all links, all addresses, all routes
///     let actions = Vec::new(); // … what the machine makes of the fact
///     for outcome in kernel.apply(actions) {
///         // … tell the machine what failed; what worked shows as a fact
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Kernel {
    watch: Watch,
    requests: RequestSocket,
    packets: Option<PacketSocket>,
    ears: Ears,
    clock: Clock,
}

/// A change of addresses or links that waits for the next system call.
#[derive(Clone, Debug)]
struct Pending {
    /// Which outcome it decides.
    slot: usize,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// Put an address there, or extend its lifetime.
    Add(NewAddress),
    /// Remove an address.
    Remove(AddressKey),
    /// Change a link, and look at it again.
    Set(LinkIndex, Request),
    /// Set the lifetime of an address that was just added, since it came out too long.
    Shorten(NewAddress),
    /// Remove an address whose deadline passed while it was added.
    Withdraw(AddressKey),
}

type Outcomes = Vec<Option<Result<(), KernelError>>>;

impl Kernel {
    /// Starts to watch the calling thread's network namespace, and lists it. Ticks in actions count
    /// from `origin`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// # Errors
    ///
    /// If the sockets cannot be opened or the first listing fails. Missing capabilities are not an
    /// error here: the actions that need them fail.
    pub fn open(origin: Origin) -> Result<Self, WatchError> {
        Ok(Self {
            watch: Watch::open()?,
            requests: RequestSocket::open()?,
            // In this namespace, whatever thread sends by it later.
            packets: PacketSocket::open().ok(),
            ears: Ears::default(),
            clock: Clock::start(origin),
        })
    }

    /// Waits for the next fact; see [`Watch::next`]. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// If facts can no longer be had.
    pub async fn next(&mut self) -> Result<HostChange, WatchError> {
        // Cancel-safe, both: what was not handed out stays.
        tokio::select! {
            biased;
            change = self.watch.next() => change,
            sighting = self.ears.next() => Ok(HostChange::Sighted(sighting)),
        }
    }

    /// What is known of the kernel now. It may be ahead of the facts handed out.
    pub fn mirror(&self) -> &Mirror {
        self.watch.mirror()
    }

    /// The watch, for its counters.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Whether this kernel keeps the mark of an address (`IFA_PROTO`, Linux 5.18). Without it,
    /// addresses of ours cannot be told by their mark.
    pub fn marks_supported(&self) -> bool {
        // The kernel itself marks the loopback and link-local addresses.
        self.mirror().addresses().any(|address| address.mark != 0) || release_is_at_least(5, 18)
    }

    /// How long the machine was suspended since this was opened, or since [`Self::rebase`]. That
    /// counts as time passed for every deadline, so nothing that was decided before a sleep is
    /// carried out after it.
    pub fn suspended(&self) -> Duration {
        self.clock.suspended()
    }

    /// Takes note that whoever sets the deadlines knows of the sleep so far.
    pub fn rebase(&mut self) {
        self.clock.forgive();
    }

    /// Carries out the actions in their order, many to a system call, and returns the outcome of each in
    /// the same order. Does not wait for anything but the kernel: microseconds to milliseconds.
    ///
    /// An address that was already gone counts as removed. One that was added with a deadline never
    /// outlives it by more than the kernel is late in removing it (up to 1.25 s): if the kernel took
    /// its time, the lifetime is set once more, and if the deadline is past, the address is removed.
    pub fn apply(&mut self, actions: Vec<KernelAction>) -> Vec<KernelOutcome> {
        let mut outcomes: Outcomes = vec![None; actions.len()];
        let mut pending = Vec::new();
        // Frames come after the additions, so that those are one batch.
        let mut frames = Vec::new();
        self.listen(&actions, &mut outcomes);
        for (slot, action) in actions.iter().enumerate() {
            let step = match action {
                KernelAction::AddAddress(new) => Step::Add(*new),
                KernelAction::RemoveAddress(key) => {
                    // What is to be said of it is said before.
                    if !frames.is_empty() {
                        self.flush(&mut pending, &mut outcomes);
                        self.send_all(&mut frames, &mut outcomes);
                    }
                    Step::Remove(*key)
                }
                KernelAction::SetAlias { link, alias } => {
                    Step::Set(*link, encode::set_alias(*link, alias))
                }
                KernelAction::SetConf { link, settings } => {
                    Step::Set(*link, encode::set_conf(*link, settings))
                }
                KernelAction::CreateVirtual { name, alias } => {
                    self.flush(&mut pending, &mut outcomes);
                    outcomes[slot] = Some(self.create_virtual(name, alias));
                    continue;
                }
                KernelAction::DeleteVirtual { link } => {
                    Step::Set(*link, encode::delete_link(*link))
                }
                KernelAction::Heed { .. } | KernelAction::Unheed { .. } => continue,
                KernelAction::Probe { .. } | KernelAction::Advertise { .. } => {
                    frames.push((slot, action));
                    continue;
                }
            };
            pending.push(Pending { slot, step });
        }
        self.flush(&mut pending, &mut outcomes);
        self.send_all(&mut frames, &mut outcomes);
        let unsent = || Err(KernelError::Transport { text: "it was not sent".to_owned() });
        let results = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unsent));
        actions
            .into_iter()
            .zip(results)
            .map(|(action, result)| {
                tracing::debug!(?action, ?result, "asked the kernel");
                KernelOutcome { action, result }
            })
            .collect()
    }

    /// Sends what is pending, and what follows from the answers.
    fn flush(&mut self, pending: &mut Vec<Pending>, outcomes: &mut Outcomes) {
        let all = std::mem::take(pending);
        for batch in all.chunks(BATCH) {
            let mut batch = batch.to_vec();
            while !batch.is_empty() {
                batch = self.exchange(batch, outcomes);
            }
        }
    }

    /// Sends one batch; returns what has to be sent because of the answers. That ends: each time an
    /// address comes back its remaining seconds are fewer, and in the end it is withdrawn.
    fn exchange(&mut self, batch: Vec<Pending>, outcomes: &mut Outcomes) -> Vec<Pending> {
        let now = self.clock.now();
        let (mut requests, mut sent) = (Vec::new(), Vec::new());
        for Pending { slot, step } in batch {
            match prepare(step, now) {
                Some((request, step, seconds)) => {
                    requests.push(request);
                    sent.push((slot, step, seconds));
                }
                None => outcomes[slot] = Some(Err(KernelError::PastDeadline)),
            }
        }
        let answers = self.requests.request(requests);
        let now = self.clock.now();
        let (mut again, mut changed, mut removed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        // From the last on, since what was removed later stays removed.
        for ((slot, step, seconds), answer) in sent.into_iter().zip(answers).rev() {
            outcomes[slot] = Some(match step {
                Step::Shorten(new) if matches!(answer, Err(KernelError::Transport { .. })) => {
                    again.push(Pending { slot, step: Step::Withdraw(new.key()) });
                    answer
                }
                Step::Add(new) | Step::Shorten(new) => {
                    // Without an answer it may be there.
                    let may_be_there = !matches!(answer, Err(KernelError::Refused { .. }));
                    if may_be_there
                        && !removed.contains(&new.key())
                        && let (Lifetime::Until(until), Some(seconds)) = (new.lifetime, seconds)
                        && clock::outlives(seconds, now, until)
                    {
                        again.push(Pending { slot, step: Step::Shorten(new) });
                    }
                    answer
                }
                Step::Remove(key) => {
                    removed.insert(key);
                    absent_is_removed(answer)
                }
                Step::Set(link, _) => {
                    changed.insert(link);
                    answer
                }
                Step::Withdraw(key) => {
                    if let Err(error) = absent_is_removed(answer) {
                        tracing::error!(address = %key, %error, "an address past its deadline stays");
                    }
                    Err(KernelError::PastDeadline)
                }
            });
        }
        for link in changed {
            if let Err(error) = self.watch.look_again(link) {
                // The next wait for a fact fails with it too.
                tracing::warn!(%link, %error, "could not look at a link again");
            }
        }
        again.reverse();
        again
    }

    /// Makes the virtual interface. One that is there already is left alone.
    fn create_virtual(&mut self, name: &str, alias: &str) -> Result<(), KernelError> {
        let mut created = self.request(encode::create_dummy(name));
        if matches!(&created, Err(KernelError::Refused { errno: libc::EOPNOTSUPP, .. })) {
            created = self.request(encode::create_bridge(name));
            if created.is_ok() {
                tracing::warn!(
                    link = name,
                    "this kernel has no dummy links, so a bridge without ports serves instead"
                );
            }
        }
        match created {
            // Nothing says that it is ours, so its alias is not for us to set.
            Err(KernelError::Refused { errno: libc::EEXIST, .. }) => Ok(()),
            // The kernel heeds an alias only for a link that is there.
            Ok(()) => self.request(encode::set_alias_by_name(name, alias)),
            Err(error) => Err(error),
        }
    }

    fn request(&mut self, request: Request) -> Result<(), KernelError> {
        let mut answers = self.requests.request(vec![request]);
        answers.pop().unwrap_or(Ok(()))
    }

    /// Listens for other addresses than before, all at once and ahead of everything else: an answer
    /// may come at any moment after.
    fn listen(&mut self, actions: &[KernelAction], outcomes: &mut Outcomes) {
        let is_about = |action: &KernelAction| {
            matches!(action, KernelAction::Heed { .. } | KernelAction::Unheed { .. })
        };
        if !actions.iter().any(is_about) {
            return;
        }
        self.ears.drain();
        for (action, outcome) in actions.iter().zip(&mut *outcomes) {
            match action {
                KernelAction::Heed { ip, link } => {
                    // Where there is no Ethernet nobody is asked for addresses.
                    let has_neighbours =
                        self.mirror().link(*link).is_some_and(|link| link.mac.is_some());
                    *outcome = Some(match has_neighbours {
                        true => self.ears.heed(*ip, *link).map_err(|error| failed(&error)),
                        false => Ok(()),
                    });
                }
                KernelAction::Unheed { ip, link } => {
                    self.ears.unheed(*ip, *link);
                    *outcome = Some(Ok(()));
                }
                KernelAction::AddAddress(_)
                | KernelAction::Advertise { .. }
                | KernelAction::CreateVirtual { .. }
                | KernelAction::DeleteVirtual { .. }
                | KernelAction::Probe { .. }
                | KernelAction::RemoveAddress(_)
                | KernelAction::SetAlias { .. }
                | KernelAction::SetConf { .. } => {}
            }
        }
        if let Err(error) = self.ears.attune() {
            tracing::warn!(%error, "cannot listen for other stations with our addresses");
        }
    }
}

/// The request that carries out a step at `now`, and the seconds in it; `None` if it is too late.
fn prepare(step: Step, now: Tick) -> Option<(Request, Step, Option<u32>)> {
    let (new, left) = match step {
        Step::Add(new) => (new, clock::left(new.lifetime, now)),
        Step::Shorten(new) => match clock::left(new.lifetime, now) {
            Left::Nothing => return prepare(Step::Withdraw(new.key()), now),
            left @ (Left::Forever | Left::Seconds(_)) => (new, left),
        },
        Step::Remove(key) | Step::Withdraw(key) => {
            return Some((encode::remove_address(&key), step, None));
        }
        Step::Set(_, ref request) => return Some((request.clone(), step, None)),
    };
    let seconds = match left {
        Left::Forever => None,
        Left::Nothing => return None,
        Left::Seconds(seconds) => Some(seconds),
    };
    Some((encode::add_address(&new, seconds), step, seconds))
}

/// That an address, or its link, is not there is as good as having removed it.
fn absent_is_removed(answer: Result<(), KernelError>) -> Result<(), KernelError> {
    match answer {
        Err(KernelError::Refused { errno: libc::EADDRNOTAVAIL | libc::ENODEV, .. }) => Ok(()),
        answer => answer,
    }
}

fn refused(errno: i32) -> KernelError {
    KernelError::Refused { errno, text: errno_text(errno) }
}

fn failed(error: &io::Error) -> KernelError {
    match error.raw_os_error() {
        Some(errno) => refused(errno),
        None => KernelError::Transport { text: error.to_string() },
    }
}

/// Whether the running kernel calls itself this version or a later one.
fn release_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(is_major)), Some(Ok(is_minor))) => (is_major, is_minor) >= (major, minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewAddress {
        NewAddress {
            link: LinkIndex(3),
            net: "192.0.2.7/24".parse().unwrap(),
            lifetime: Lifetime::Until(Tick::from_nanos(5_000_000_000)),
            deprecated: false,
            no_prefix_route: false,
        }
    }

    /// The request, and the seconds in it, of a step so many milliseconds after the start.
    fn prepared(step: Step, millis: i64) -> Option<(Request, Option<u32>)> {
        let prepared = prepare(step, Tick::from_nanos(millis * 1_000_000));
        prepared.map(|(request, _, seconds)| (request, seconds))
    }

    #[test]
    fn seconds_are_counted_when_the_request_is_made() {
        let expected = (encode::add_address(&new(), Some(3)), Some(3));
        assert_eq!(prepared(Step::Add(new()), 1_500), Some(expected.clone()));
        assert_eq!(prepared(Step::Shorten(new()), 1_500), Some(expected));
    }

    #[test]
    fn too_late_a_new_address_is_not_sent_and_one_that_is_there_is_withdrawn() {
        assert_eq!(prepared(Step::Add(new()), 4_001), None);
        let expected = (encode::remove_address(&new().key()), None);
        assert_eq!(prepared(Step::Shorten(new()), 4_001), Some(expected.clone()));
        assert_eq!(prepared(Step::Withdraw(new().key()), 9_000), Some(expected));
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert!(release_is_at_least(3, 10));
        assert!(!release_is_at_least(1000, 0));
    }
}
