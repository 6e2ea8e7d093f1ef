//! From answers to findings: doubles, outages, moves. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Mac;

/// How long answers to a question are waited for. A node answers within microseconds; a machine that
/// is very busy may take some milliseconds to carry the frames.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// What was found since the last time it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Times in which two answered for one address.
    pub doubles: Vec<Double>,
    /// Times in which nobody answered for an address, over by now.
    pub outages: Vec<Outage>,
    /// How often the answers for an address came from another than before.
    pub moves: usize,
    /// How often each address was asked for.
    pub rounds: u64,
    /// The longest time between two rounds of questions: what is shorter may not have been seen.
    pub pause: Duration,
    /// Answers that came too late to be judged.
    pub late: usize,
}

/// Two hosts answered the very same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Double {
    /// For which address.
    pub address: IpAddr,
    /// Everyone who answered.
    pub macs: BTreeSet<Mac>,
    /// When the first such question was asked.
    pub from: Instant,
    /// When the last was.
    pub to: Instant,
    /// How many questions in a row.
    pub questions: usize,
}

/// Nobody answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// For which address.
    pub address: IpAddr,
    /// When the last question before was asked that was answered.
    pub from: Instant,
    /// When the first question after was asked that was answered.
    pub to: Instant,
    /// Who answered before.
    pub before: Mac,
    /// Who answered after.
    pub after: Mac,
}

/// How an address stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The address.
    pub address: IpAddr,
    /// Who answered the last question that was judged.
    pub answering: BTreeSet<Mac>,
    /// Since which question it has been the same, without a gap.
    pub since: Instant,
    /// When that last question was asked.
    pub until: Instant,
}

/// Judges rounds of questions, one question for each address, a while after they were asked.
#[derive(Debug)]
pub(super) struct Judge {
    addresses: Vec<IpAddr>,
    /// Rounds that are still waiting for answers, the oldest first.
    rounds: VecDeque<Round>,
    /// The number of the oldest.
    first: u32,
    last_sent: Option<Instant>,
    tracks: Vec<Track>,
    findings: Findings,
}

#[derive(Debug)]
struct Round {
    sent: Instant,
    answers: Vec<BTreeSet<Mac>>,
}

/// What has become of one address so far.
#[derive(Debug, Default)]
struct Track {
    answering: BTreeSet<Mac>,
    since: Option<Instant>,
    until: Option<Instant>,
    /// The last that answered alone, and when.
    holder: Option<(Mac, Instant)>,
    double: Option<Double>,
}

impl Judge {
    pub(super) fn new(addresses: Vec<IpAddr>) -> Self {
        let tracks = addresses.iter().map(|_| Track::default()).collect();
        let (rounds, findings) = (VecDeque::new(), Findings::default());
        Self { addresses, rounds, first: 0, last_sent: None, tracks, findings }
    }

    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// A round begins; its number.
    pub(super) fn ask(&mut self, now: Instant) -> u32 {
        if let Some(last) = self.last_sent.replace(now) {
            self.findings.pause = self.findings.pause.max(now - last);
        }
        let answers = self.addresses.iter().map(|_| BTreeSet::new()).collect();
        self.rounds.push_back(Round { sent: now, answers });
        self.first + (self.rounds.len() - 1) as u32
    }

    /// Somebody answered the question for `address` of that round.
    pub(super) fn answered(&mut self, round: u32, address: IpAddr, mac: Mac) {
        let Some(index) = self.addresses.iter().position(|known| *known == address) else { return };
        let round = round.checked_sub(self.first).and_then(|n| self.rounds.get_mut(n as usize));
        match round {
            Some(round) => {
                round.answers[index].insert(mac);
            }
            None => self.findings.late += 1,
        }
    }

    /// Judges the rounds that were waited for long enough.
    pub(super) fn judge(&mut self, now: Instant) {
        while self.rounds.front().is_some_and(|round| now - round.sent >= PATIENCE) {
            let Some(round) = self.rounds.pop_front() else { return };
            self.first += 1;
            self.findings.rounds += 1;
            let questions = self.addresses.iter().zip(&mut self.tracks).zip(round.answers);
            for ((address, track), answers) in questions {
                track.judge(*address, round.sent, answers, &mut self.findings);
            }
        }
    }

    /// How every address stands.
    pub(super) fn looks(&self) -> Vec<Look> {
        let looks = self.addresses.iter().zip(&self.tracks).filter_map(|(address, track)| {
            Some(Look {
                address: *address,
                answering: track.answering.clone(),
                since: track.since?,
                until: track.until?,
            })
        });
        looks.collect()
    }

    /// Hands out what was found.
    pub(super) fn take_findings(&mut self) -> Findings {
        let mut findings = std::mem::take(&mut self.findings);
        findings.doubles.extend(self.tracks.iter_mut().filter_map(|track| track.double.take()));
        findings
    }
}

impl Track {
    fn judge(
        &mut self,
        address: IpAddr,
        sent: Instant,
        answering: BTreeSet<Mac>,
        found: &mut Findings,
    ) {
        if self.since.is_none() || answering != self.answering {
            self.since = Some(sent);
        }
        self.until = Some(sent);
        if answering.len() > 1 {
            let double = self.double.get_or_insert_with(|| Double {
                address,
                macs: BTreeSet::new(),
                from: sent,
                to: sent,
                questions: 0,
            });
            double.macs.extend(&answering);
            double.to = sent;
            double.questions += 1;
        } else {
            found.doubles.extend(self.double.take());
        }
        if let Some(&mac) = answering.first() {
            if let Some((before, from)) = self.holder {
                found.moves += usize::from(before != mac);
                if self.answering.is_empty() {
                    let outage = Outage { address, from, to: sent, before, after: mac };
                    found.outages.push(outage);
                }
            }
            self.holder = Some((mac, sent));
        }
        self.answering = answering;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 240));
    const A: Mac = [0, 0, 0x5e, 0, 0x53, 11];
    const B: Mac = [0, 0, 0x5e, 0, 0x53, 12];
    const EVERY: Duration = Duration::from_millis(10);

    /// Judges one question after the other, 10 ms apart; each with those who answer it.
    fn judged(questions: &[&[Mac]]) -> (Judge, Instant) {
        let (mut judge, start) = (Judge::new(vec![VIP]), Instant::now());
        for (n, answers) in (0_u32..).zip(questions) {
            let round = judge.ask(start + EVERY * n);
            for mac in *answers {
                judge.answered(round, VIP, *mac);
            }
        }
        judge.judge(start + EVERY * questions.len() as u32 + PATIENCE);
        (judge, start)
    }

    #[test]
    fn two_answers_to_one_question_are_a_double_for_as_long_as_they_come() {
        let (mut judge, start) = judged(&[&[A], &[A, B], &[A, B], &[B], &[A, B]]);
        let macs = BTreeSet::from([A, B]);
        let double = |first: u32, last: u32| Double {
            address: VIP,
            macs: macs.clone(),
            from: start + EVERY * first,
            to: start + EVERY * last,
            questions: (last - first + 1) as usize,
        };
        assert_eq!(judge.take_findings().doubles, [double(1, 2), double(4, 4)]);
        assert_eq!(judge.take_findings(), Findings::default());
    }

    #[test]
    fn a_hand_over_is_no_double_and_no_outage() {
        let (mut judge, _) = judged(&[&[A], &[A], &[B], &[B]]);
        let findings = judge.take_findings();
        assert_eq!((findings.doubles.len(), findings.outages.len()), (0, 0));
        assert_eq!((findings.moves, findings.rounds), (1, 4));
    }

    #[test]
    fn an_outage_lasts_from_the_last_answer_before_to_the_first_after() {
        let (mut judge, start) = judged(&[&[A], &[], &[], &[B], &[]]);
        let outage =
            Outage { address: VIP, from: start, to: start + EVERY * 3, before: A, after: B };
        assert_eq!(judge.take_findings().outages, [outage]);
        let [look] = &judge.looks()[..] else { panic!("one address") };
        assert!(look.answering.is_empty() && look.since == start + EVERY * 4);
    }

    #[test]
    fn before_anybody_answered_there_is_no_outage() {
        let (mut judge, _) = judged(&[&[], &[A]]);
        assert_eq!(judge.take_findings().outages, []);
    }

    #[test]
    fn a_pause_of_the_witness_and_a_late_answer_are_owned_up_to() {
        let (mut judge, start) = judged(&[&[A]]);
        let later = start + Duration::from_secs(1);
        judge.ask(later);
        judge.answered(0, VIP, B);
        let findings = judge.take_findings();
        assert_eq!((findings.pause, findings.late), (Duration::from_secs(1), 1));
    }
}
