//! Clients that ask a Service again and again, and count.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::responder::{Transport, ask_here};

/// A client that asks one address until it is told to [`finish`](Self::finish).
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Tally>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicBool,
    answered: AtomicU32,
}

/// What a client has met with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Who asked whom by what.
    pub route: Route,
    /// How often it asked.
    pub asked: u32,
    /// How often it got no answer, each time within half a second.
    pub failed: u32,
    /// The longest time from one answer to the next; the whole time if there was none.
    pub longest_gap: Duration,
    /// The answers, and how often each came.
    pub answers: BTreeMap<String, u32>,
}

/// Who asks whom by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where the client is.
    pub from: String,
    /// What it asks.
    pub to: SocketAddr,
    /// By what.
    pub by: Transport,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        write!(f, "{by} from {} to {}", self.from, self.to)
    }
}

impl Traffic {
    /// Starts to ask from inside `from`, `every` so often, or as soon as the last question is
    /// answered or given up if that takes longer.
    pub fn start(
        from: &Namespace,
        to: SocketAddr,
        by: Transport,
        every: Duration,
    ) -> io::Result<Self> {
        let enter = from.entry()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let route = Route { from: from.name().to_owned(), to, by };
        let (entered, result) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(route.to_string()).spawn(move || {
            // Who starts us waits for the answer.
            let _ = entered.send(enter());
            ask_on(route, every, &theirs)
        })?;
        let traffic = Self { shared, thread: Some(thread) };
        result.recv().unwrap_or_else(|_| Err(io::Error::other("the thread is gone")))?;
        Ok(traffic)
    }

    /// How many answers it has got so far.
    pub fn answered(&self) -> u32 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn finish(mut self) -> Tally {
        self.shared.done.store(true, Ordering::Relaxed);
        // It is taken here and in `drop` alone.
        let thread = self.thread.take().expect("a client is finished once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

fn ask_on(route: Route, every: Duration, shared: &Shared) -> Tally {
    let mut answered = Instant::now();
    let (asked, failed, longest_gap) = (0, 0, Duration::ZERO);
    let mut tally = Tally { route, asked, failed, longest_gap, answers: BTreeMap::new() };
    while !shared.done.load(Ordering::Relaxed) {
        let asked = Instant::now();
        tally.asked += 1;
        match ask_here(tally.route.to, tally.route.by) {
            Ok(answer) => {
                tally.longest_gap = tally.longest_gap.max(answered.elapsed());
                answered = Instant::now();
                shared.answered.fetch_add(1, Ordering::Relaxed);
                *tally.answers.entry(answer).or_default() += 1;
            }
            Err(_) => tally.failed += 1,
        }
        thread::sleep(every.saturating_sub(asked.elapsed()));
    }
    tally.longest_gap = tally.longest_gap.max(answered.elapsed());
    tally
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::background::Background;
    use crate::lab::ip::ip;
    use crate::lab::observe::{Glance, wait_until};
    use crate::lab::stop::Stop;
    use crate::lab::topology::Topology;
    use crate::lab::{require, responder};

    #[test]
    fn an_outage_is_counted_and_timed() {
        require::privileged(|| {
            let topology = Topology::build(1).unwrap();
            let background = Background::start().unwrap();
            let node = &topology.nodes()[0];
            responder::serve_pod(&background, node).unwrap();
            let (v4, _) = topology.node_addresses().next().unwrap();
            let to = SocketAddr::new(v4, responder::POD_PORT);
            let reached = |how| {
                wait_until(Duration::from_secs(10), &Stop::default(), || {
                    let answer = topology.client().run(|| ask_here(to, how)).unwrap();
                    answer.map_err(|error| Glance::NotYet(error.to_string()))
                })
            };
            for by in [Transport::Tcp, Transport::Udp] {
                assert_eq!(reached(by).unwrap(), "node1 192.0.2.100");
                let every = Duration::from_millis(5);
                let traffic = Traffic::start(topology.client(), to, by, every).unwrap();
                let answers = |more| {
                    let wanted = traffic.answered() + more;
                    wait_until(Duration::from_secs(10), &Stop::default(), || {
                        let answered = traffic.answered();
                        if answered >= wanted {
                            Ok(())
                        } else {
                            Err(Glance::NotYet(format!("{answered} answers")))
                        }
                    })
                };
                answers(3).unwrap();
                ip(node, "link set dev eth0 down").unwrap();
                let cut = Instant::now();
                while cut.elapsed() < Duration::from_millis(600) {
                    thread::sleep(Duration::from_millis(10));
                }
                ip(node, "link set dev eth0 up").unwrap();
                answers(3).unwrap();
                let tally = traffic.finish();
                assert!(tally.failed > 0 && tally.asked > tally.failed, "{tally:?}");
                assert!(tally.longest_gap > Duration::from_millis(500), "{tally:?}");
            }
        });
    }
}
