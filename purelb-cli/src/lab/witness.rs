//! Who answers for an address: asked on the wire, many times a second, from the client's namespace.
//!
//! Each round asks for every address once, by an ARP request or a neighbour solicitation. The
//! hardware address that the asker gives as its own holds the number of the round, and whoever
//! answers sends the answer there; so each answer is known to belong to one question. Two hosts that
//! answer the *same* question both have the address: the question reaches all of them together, and
//! a hand-over from one to the other takes longer than that.

mod judge;

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use purelb_netlink::Port;
use purelb_netlink::frame::{ArpOperation, BROADCAST, Frame, Packet};

use super::namespace::Namespace;
use super::topology::Topology;
use judge::Judge;

pub use judge::{Double, Findings, Look, Outage};

/// A hardware address.
pub type Mac = [u8; 6];

/// The first bytes of the hardware address that a question is to be answered to: locally
/// administered. The round's number is in the rest.
const ASKER: [u8; 2] = [0x02, 0x50];

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    judge: Mutex<Judge>,
    ended: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Witness {
    /// Starts to ask for each of `addresses` once in every `every`, out of the link `link` of
    /// `namespace`, whose hardware address is `mac`.
    pub fn start(
        namespace: &Namespace,
        link: &str,
        mac: Mac,
        addresses: Vec<IpAddr>,
        every: Duration,
    ) -> io::Result<Self> {
        let port = namespace.run(|| Port::open(link))??;
        let shared = Arc::new(Shared {
            judge: Mutex::new(Judge::new(addresses)),
            ended: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let asking = Arc::clone(&shared);
        let thread = thread::Builder::new().name("witness".into()).spawn(move || {
            if let Err(error) = asking.ask(port, mac, every) {
                *lock(&asking.failure) = Some(error);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How every address stands that has been asked for.
    pub fn looks(&self) -> io::Result<Vec<Look>> {
        match lock(&self.shared.failure).take() {
            Some(error) => Err(error),
            None => Ok(lock(&self.shared.judge).looks()),
        }
    }

    /// What was found since the last call.
    pub fn take_findings(&self) -> Findings {
        lock(&self.shared.judge).take_findings()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn ask(&self, mut port: Port, mac: Mac, every: Duration) -> io::Result<()> {
        let mut due = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // After a pause it goes on at its pace; nothing is caught up on.
            due = (due + every).max(Instant::now());
            let mut judge = lock(&self.judge);
            let round = judge.ask(Instant::now());
            for address in judge.addresses() {
                port.send(&question(round, *address, mac))?;
            }
            while let Some(frame) = port.receive()? {
                if let Some((round, address)) = answer(&frame) {
                    judge.answered(round, address, frame.from);
                }
            }
            judge.judge(Instant::now());
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The question of that round for `address`, sent from `mac`.
fn question(round: u32, address: IpAddr, mac: Mac) -> Frame {
    let asker = asker(round);
    match address {
        IpAddr::V4(target) => Frame {
            to: BROADCAST,
            from: mac,
            packet: Packet::Arp {
                operation: ArpOperation::Request,
                sender_mac: asker,
                sender: Topology::ASKER_V4,
                target_mac: [0; 6],
                target,
            },
        },
        IpAddr::V6(target) => {
            let [.., x, y, z] = target.octets();
            Frame {
                to: [0x33, 0x33, 0xff, x, y, z],
                from: mac,
                packet: Packet::Solicitation {
                    source: Topology::ASKER_V6,
                    destination: solicited_node(target),
                    target,
                    mac: Some(asker),
                },
            }
        }
    }
}

/// The round and the address that a frame is an answer for.
fn answer(frame: &Frame) -> Option<(u32, IpAddr)> {
    let [a, b, number @ ..] = frame.to;
    if [a, b] != ASKER {
        return None;
    }
    let address = match frame.packet {
        Packet::Arp { operation: ArpOperation::Reply, sender, .. } => sender.into(),
        Packet::Advertisement { target, solicited: true, .. } => target.into(),
        Packet::Arp { operation: ArpOperation::Request, .. }
        | Packet::Advertisement { solicited: false, .. }
        | Packet::Solicitation { .. } => return None,
    };
    Some((u32::from_be_bytes(number), address))
}

fn asker(round: u32) -> Mac {
    let ([a, b], [c, d, e, f]) = (ASKER, round.to_be_bytes());
    [a, b, c, d, e, f]
}

/// RFC 4291 §2.7.1
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::ip::ip;
    use crate::lab::observe::{Glance, wait_until};
    use crate::lab::require;
    use crate::lab::stop::Stop;

    const EVERY: Duration = Duration::from_millis(5);
    const LIMIT: Duration = Duration::from_secs(20);

    /// Waits until the same have answered for every address for a while, and says who.
    fn answering(witness: &Witness, expected: &[u8]) {
        let expected: BTreeSet<Mac> =
            expected.iter().map(|host| [0, 0, 0x5e, 0, 0x53, *host]).collect();
        let seen = wait_until(LIMIT, &Stop::default(), || {
            let looks = witness.looks().unwrap();
            let is_so = |look: &Look| look.answering == expected;
            let has_all = looks.len() == 2 && looks.iter().all(is_so);
            if has_all { Ok(()) } else { Err(Glance::NotYet(format!("{looks:?}"))) }
        });
        seen.unwrap();
    }

    #[test]
    fn each_question_is_answered_by_every_host_that_has_the_address() {
        require::privileged(|| {
            let topology = Topology::build(2).unwrap();
            let [one, two] = topology.nodes() else { panic!("two nodes") };
            let vips = ["192.0.2.240", "2001:db8:1::240"];
            let on = |node: &Namespace, verb: &str| {
                for (vip, length) in vips.iter().zip([24, 64]) {
                    ip(node, &format!("addr {verb} {vip}/{length} dev eth0 nodad")).unwrap();
                }
            };
            on(one, "add");
            let client = Topology::mac_of_client();
            let addresses = vips.iter().map(|vip| vip.parse().unwrap()).collect();
            let witness =
                Witness::start(topology.client(), "eth0", client, addresses, EVERY).unwrap();
            answering(&witness, &[11]);
            witness.take_findings();

            // Both have them: every question is answered twice.
            on(two, "add");
            answering(&witness, &[11, 12]);
            on(one, "del");
            answering(&witness, &[12]);
            let found = witness.take_findings();
            let doubled: BTreeSet<IpAddr> = found.doubles.iter().map(|d| d.address).collect();
            assert_eq!(doubled.len(), 2, "{found:?}");
            assert_eq!((found.outages.len(), found.moves), (0, 2), "{found:?}");

            // Nobody has them.
            on(two, "del");
            answering(&witness, &[]);
            on(one, "add");
            answering(&witness, &[11]);
            let found = witness.take_findings();
            assert_eq!((found.doubles.len(), found.outages.len()), (0, 2), "{found:?}");
            assert_eq!(found.late, 0);
        });
    }

    #[test]
    fn the_number_of_the_round_survives_the_way_there_and_back() {
        for round in [0, 7, 0x0102_0304, u32::MAX] {
            let [a, b, number @ ..] = asker(round);
            assert_eq!(([a, b], u32::from_be_bytes(number)), (ASKER, round));
        }
        let group = solicited_node("2001:db8:1::1234:5678".parse().unwrap());
        assert_eq!(group, "ff02::1:ff34:5678".parse::<Ipv6Addr>().unwrap());
    }
}
