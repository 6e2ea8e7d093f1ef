//! The one loop that drives a state machine of the core against the real world.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;

use futures::FutureExt;
use purelb_core::machine::Machine;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use crate::telemetry::health::{BEAT, Pulse};

/// The most facts that are taken in before the actions they led to are carried out.
const BATCH: usize = 256;

/// The world around a [`Machine`]: carries out its actions and tells it facts.
///
/// What takes time, such as a request to the Kubernetes API, is only *started* by
/// [`perform`](Self::perform); the host keeps it as a future, polls it in [`event`](Self::event),
/// and hands its result over as a fact.
pub trait Host {
    /// What it is the world of.
    type Machine: Machine;
    /// Why the loop is over.
    type Ended;

    /// Carries out everything the machine asked for since the last call, in order, without waiting.
    /// What is known at once is pushed to `facts`, and handed over before anything else.
    fn perform(
        &mut self,
        actions: Vec<<Self::Machine as Machine>::Action>,
        facts: &mut VecDeque<<Self::Machine as Machine>::Event>,
    );

    /// The next fact or question, or why there will be none any more.
    ///
    /// Must be cancel-safe: the future is dropped whenever a deadline comes first, and nothing may
    /// be lost by that. Receiving from a channel or a stream is; a sequence of awaits is not.
    fn event(&mut self) -> impl Future<Output = Result<Input<Self::Machine>, Self::Ended>>;

    /// Whether the machine has nothing left to do, asked after its actions were carried out.
    fn finished(&self, machine: &Self::Machine) -> Option<Self::Ended>;
}

/// What a [`Host`] hands to the loop.
#[derive(Debug)]
pub enum Input<M: Machine> {
    /// A fact for the machine.
    Fact(M::Event),
    /// A question about the machine: it changes nothing.
    Question(Question<M>),
}

/// A question about a machine, answered between two facts.
pub struct Question<M>(Box<dyn FnOnce(&M) + Send>);

impl<M: 'static> Question<M> {
    /// A question, and where its answer arrives. Nobody has to wait for it.
    pub fn new<A: Send + 'static>(
        ask: impl FnOnce(&M) -> A + Send + 'static,
    ) -> (Self, oneshot::Receiver<A>) {
        let (sender, answer) = oneshot::channel();
        let question = Self(Box::new(move |machine| drop(sender.send(ask(machine)))));
        (question, answer)
    }
}

impl<M> Question<M> {
    /// Answers it.
    pub fn answer(self, machine: &M) {
        self.0(machine);
    }
}

impl<M> fmt::Debug for Question<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

fn take_in<M: Machine>(machine: &mut M, input: Input<M>) {
    match input {
        Input::Fact(fact) => machine.handle_event(fact, now()),
        Input::Question(question) => question.answer(machine),
    }
}

/// Drives `machine` until its host says why it ended.
///
/// Actions are drained into one batch and handed to the host; then the loop waits for a fact or the
/// machine's deadline, whichever is first. A deadline that is due goes before facts, so that a busy
/// source cannot hold up a lease; facts that are already there are taken in together, in their
/// order, so that a burst is answered by one batch of actions. Every turn beats the pulse, and without
/// anything to do there is one every [`BEAT`].
pub async fn drive<H: Host>(machine: &mut H::Machine, host: &mut H, pulse: &Pulse) -> H::Ended {
    let mut facts = VecDeque::new();
    loop {
        pulse.beat();
        let actions: Vec<_> = std::iter::from_fn(|| machine.poll_action()).collect();
        if !actions.is_empty() {
            host.perform(actions, &mut facts);
        }
        if let Some(ended) = host.finished(machine) {
            return ended;
        }
        if !facts.is_empty() {
            for fact in std::mem::take(&mut facts) {
                machine.handle_event(fact, now());
            }
            continue;
        }
        let deadline = machine.poll_timeout();
        let due = Instant::from_std(deadline.map_or_else(now, |deadline| deadline.at));
        tokio::select! {
            biased;
            // Cancel-safe: a timer holds nothing.
            () = sleep_until(due), if deadline.is_some() => {
                tracing::trace!(why = deadline.map(|deadline| deadline.why), "deadline");
                machine.handle_timeout(now());
            }
            // Cancel-safe: the host promises it.
            input = host.event() => match input {
                Ok(input) => take_in(machine, input),
                Err(ended) => return ended,
            },
            // Cancel-safe: a timer holds nothing.
            () = sleep(BEAT) => {}
        }
        for taken in 1..BATCH {
            // The first is taken even so: no deadline, however often due, shuts the world out.
            let overdue =
                taken > 1 && machine.poll_timeout().is_some_and(|deadline| deadline.at <= now());
            // Polled once and dropped, which is cancelling it: the host promises that this is safe.
            match if overdue { None } else { host.event().now_or_never() } {
                Some(Ok(input)) => take_in(machine, input),
                Some(Err(ended)) => return ended,
                None => break,
            }
        }
    }
}

/// The runtime's clock, which a test may pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::pin::pin;
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use purelb_core::machine::Deadline;
    use tokio::sync::mpsc;
    use tokio::time::advance;

    use super::*;
    use crate::telemetry::desk::Pages;
    use crate::telemetry::health::{Health, STILL};
    use crate::telemetry::server::Listening;

    /// Asks for one action per fact, and for a call once its deadline is due.
    #[derive(Default)]
    struct Echo {
        actions: VecDeque<String>,
        deadline: Option<std::time::Instant>,
    }

    impl Machine for Echo {
        type Event = &'static str;
        type Action = String;

        fn handle_event(&mut self, event: &'static str, now: std::time::Instant) {
            if event == "arm" {
                self.deadline = Some(now + Duration::from_secs(5));
            }
            self.actions.push_back(event.to_owned());
        }

        fn handle_timeout(&mut self, now: std::time::Instant) {
            if self.deadline.is_some_and(|at| at <= now) {
                self.deadline = None;
                self.actions.push_back("deadline".to_owned());
            }
        }

        fn poll_action(&mut self) -> Option<String> {
            self.actions.pop_front()
        }

        fn poll_timeout(&self) -> Option<Deadline> {
            self.deadline.map(|at| Deadline { at, why: "test" })
        }
    }

    struct World {
        source: mpsc::UnboundedReceiver<&'static str>,
        batches: Vec<Vec<String>>,
        answers: Vec<oneshot::Receiver<usize>>,
        done_after: &'static str,
        done: bool,
    }

    impl World {
        fn new(done_after: &'static str) -> (mpsc::UnboundedSender<&'static str>, Self) {
            let (sender, source) = mpsc::unbounded_channel();
            let (batches, answers) = (Vec::new(), Vec::new());
            (sender, Self { source, batches, answers, done_after, done: false })
        }
    }

    #[derive(Debug, PartialEq)]
    enum Ended {
        Finished,
        SourceGone,
    }

    impl Host for World {
        type Machine = Echo;
        type Ended = Ended;

        fn perform(&mut self, actions: Vec<String>, facts: &mut VecDeque<&'static str>) {
            if actions.iter().any(|action| action == "ask") {
                facts.push_back("answer");
            }
            self.done |= actions.iter().any(|action| action == self.done_after);
            self.batches.push(actions);
        }

        async fn event(&mut self) -> Result<Input<Echo>, Ended> {
            let fact = self.source.recv().await.ok_or(Ended::SourceGone)?;
            if fact != "how many?" {
                return Ok(Input::Fact(fact));
            }
            let (question, answer) = Question::new(|machine: &Echo| machine.actions.len());
            self.answers.push(answer);
            Ok(Input::Question(question))
        }

        fn finished(&self, _: &Echo) -> Option<Ended> {
            self.done.then_some(Ended::Finished)
        }
    }

    fn run(
        setup: impl FnOnce(&mpsc::UnboundedSender<&'static str>),
        done_after: &'static str,
    ) -> (Ended, Vec<Vec<String>>) {
        let (ended, world) = run_world(setup, done_after);
        (ended, world.batches)
    }

    fn run_world(
        setup: impl FnOnce(&mpsc::UnboundedSender<&'static str>),
        done_after: &'static str,
    ) -> (Ended, World) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (sender, mut world) = World::new(done_after);
        setup(&sender);
        let mut machine = Echo::default();
        let ended = runtime.block_on(async {
            let keep = (done_after != "never").then_some(sender);
            let pulse = Health::default().pulse("test");
            let ended = drive(&mut machine, &mut world, &pulse).await;
            drop(keep);
            ended
        });
        (ended, world)
    }

    #[test]
    fn a_question_is_answered_between_two_facts_and_changes_nothing() {
        let (_, mut world) = run_world(
            |sender| {
                for input in ["a", "how many?", "b"] {
                    sender.send(input).unwrap();
                }
            },
            "b",
        );
        assert_eq!(world.answers[0].try_recv(), Ok(1));
        assert_eq!(world.batches, [["a", "b"]]);
    }

    #[test]
    fn a_burst_of_facts_is_answered_by_one_batch() {
        let (ended, batches) = run(
            |sender| {
                for fact in ["a", "b", "c"] {
                    sender.send(fact).unwrap();
                }
            },
            "c",
        );
        assert_eq!(ended, Ended::Finished);
        assert_eq!(batches, [["a", "b", "c"]]);
    }

    #[test]
    fn what_is_known_at_once_comes_before_the_next_fact() {
        let (_, batches) = run(
            |sender| {
                sender.send("ask").unwrap();
            },
            "answer",
        );
        assert_eq!(batches, [["ask"], ["answer"]]);
    }

    #[test]
    fn a_deadline_wakes_the_loop() {
        let (_, batches) = run(|sender| sender.send("arm").unwrap(), "deadline");
        assert_eq!(batches, [["arm"], ["deadline"]]);
    }

    #[test]
    fn the_end_of_a_source_ends_the_loop() {
        let (ended, _) = run(|_| {}, "never");
        assert_eq!(ended, Ended::SourceGone);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_with_nothing_to_do_turns_and_one_that_is_not_driven_does_not() {
        let health = Health::default();
        let (_sender, mut world) = World::new("never");
        let mut machine = Echo::default();
        let pulse = health.pulse("test");
        {
            let mut driving = pin!(drive(&mut machine, &mut world, &pulse));
            let long = sleep(10 * STILL);
            tokio::select! {
                ended = &mut driving => unreachable!("{ended:?}"),
                () = long => {}
            }
            assert_eq!(health.hung(), None);
            advance(STILL).await;
            assert_eq!(health.hung(), Some("test"));
        }
    }

    /// Its `perform` never comes back, until it is let go.
    struct Stuck(World, std::sync::mpsc::Receiver<()>);

    impl Host for Stuck {
        type Machine = Echo;
        type Ended = Ended;

        fn perform(&mut self, actions: Vec<String>, facts: &mut VecDeque<&'static str>) {
            // It fails once the test has ended, which is as good.
            let _ = self.1.recv();
            self.0.perform(actions, facts);
        }

        async fn event(&mut self) -> Result<Input<Echo>, Ended> {
            self.0.event().await
        }

        fn finished(&self, machine: &Echo) -> Option<Ended> {
            self.0.finished(machine)
        }
    }

    #[test]
    fn a_loop_that_is_stuck_leaves_the_probe_without_an_answer() {
        let (let_go, stuck) = std::sync::mpsc::channel();
        let (address, addresses) = std::sync::mpsc::channel();
        let (sender, world) = World::new("never");
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listening = Listening::bind(Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
                address.send(listening.addresses()[0]).unwrap();
                let health = Health::default();
                let (mut machine, mut host) = (Echo::default(), Stuck(world, stuck));
                let pulse = health.pulse("test");
                tokio::select! {
                    ended = drive(&mut machine, &mut host, &pulse) => ended,
                    () = listening.serve(Registry::default(), health, Pages::new()) => {
                        unreachable!("it ended")
                    }
                }
            })
        });
        let address = addresses.recv().unwrap();
        // As long as a kubelet waits.
        let ask = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        let patient = || loop {
            match ask() {
                Ok(text) => return text,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => unreachable!("{error}"),
            }
        };
        assert!(patient().starts_with("HTTP/1.1 200"));
        sender.send("a").unwrap();
        assert_eq!(ask().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let_go.send(()).unwrap();
        assert!(patient().starts_with("HTTP/1.1 200"));
        drop((sender, let_go));
        assert_eq!(running.join().unwrap(), Ended::SourceGone);
    }
}
