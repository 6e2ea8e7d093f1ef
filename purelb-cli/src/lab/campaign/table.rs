//! The figures of a campaign as a Markdown table.

use std::fmt::Write as _;

use super::record::{Fault, Setup, Trial};

/// The table of `trials`, which were made on `setup`, with what has to be known to read it.
pub fn table(setup: &Setup, trials: &[&Trial]) -> String {
    let Setup { services, every_ms, fence_off, kernel, version } = setup;
    let addresses = services * 2;
    let fence = if *fence_off { "switched off" } else { "on" };
    let moves: usize = trials.iter().map(|trial| trial.moves).sum();
    let questions: u64 = trials.iter().map(|trial| trial.rounds * u64::from(addresses)).sum();
    let disturbed = trials.iter().filter(|trial| !trial.is_calm()).count();
    let mut text = format!(
        "PureLB {version}, Linux {kernel}, fence {fence}. 3 nodes, {addresses} addresses of both families, \
         each asked for every {every_ms} ms: {questions} questions, {moves} moves. Doubles are counted in \
         every trial, times only in those in which the lab itself was never without a processor for \
         more than 250 ms ({disturbed} were).\n\n\
         | fault | trials | doubles | timed | without an answer | median | p95 | max | settled, median | max | never |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for fault in Fault::ALL {
        let all: Vec<&Trial> = trials.iter().copied().filter(|t| t.fault == fault).collect();
        let calm: Vec<&Trial> = all.iter().copied().filter(|trial| trial.is_calm()).collect();
        let doubles: usize = all.iter().map(|trial| trial.doubles.len()).sum();
        let outages = sorted(calm.iter().flat_map(|t| &t.outages).map(|outage| outage.ms));
        let settled = sorted(calm.iter().filter_map(|trial| trial.settled_ms));
        let never = calm.len() - settled.len();
        let ms = |sorted: &[u64], share| match sorted {
            [] => "–".to_owned(),
            _ => format!("{} ms", percentile(sorted, share)),
        };
        // A String takes what is written to it.
        let _ = writeln!(
            text,
            "| {fault} | {} | {doubles} | {} | {} | {} | {} | {} | {} | {} | {never} |",
            all.len(),
            calm.len(),
            outages.len(),
            ms(&outages, 50),
            ms(&outages, 95),
            ms(&outages, 100),
            ms(&settled, 50),
            ms(&settled, 100),
        );
    }
    text
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

/// The smallest value that at least `share` percent of the values do not exceed; 0 of none.
fn percentile(sorted: &[u64], share: usize) -> u64 {
    let rank = (sorted.len() * share).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{setup, trial};
    use super::super::record::{DoubleSeen, OutageSeen};
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=20).collect();
        assert_eq!([50, 95, 100].map(|share| percentile(&values, share)), [10, 19, 20]);
        assert_eq!((percentile(&[7], 50), percentile(&[], 50)), (7, 0));
    }

    #[test]
    fn every_fault_has_its_line() {
        let outage = |ms| OutageSeen {
            address: "192.0.2.240".parse().unwrap(),
            before: "node1".into(),
            after: "node2".into(),
            ms,
        };
        let double = DoubleSeen {
            address: "192.0.2.240".parse().unwrap(),
            nodes: vec!["node1".into(), "node2".into()],
            after_ms: 5,
            ms: 0,
            questions: 1,
        };
        let kill = Trial { outages: vec![outage(3), outage(5)], ..trial(Fault::Kill) };
        let busy = Trial { outages: vec![outage(900)], pause_ms: 400, ..trial(Fault::Kill) };
        let freeze = Trial { doubles: vec![double], settled_ms: None, ..trial(Fault::Freeze) };
        let text = table(&setup(), &[&kill, &busy, &freeze]);
        let lines: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "| kill | 2 | 0 | 1 | 2 | 3 ms | 5 ms | 5 ms | 1 ms | 1 ms | 0 |",
                "| freeze | 1 | 1 | 1 | 0 | – | – | – | – | – | 1 |",
                "| partition | 0 | 0 | 0 | 0 | – | – | – | – | – | 0 |",
                "| stop | 0 | 0 | 0 | 0 | – | – | – | – | – | 0 |",
                "| return | 0 | 0 | 0 | 0 | – | – | – | – | – | 0 |",
            ]
        );
    }
}
