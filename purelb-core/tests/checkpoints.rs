//! A machine that was written down and read back goes on as it would have.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use purelb_core::allocator::Allocator;
use purelb_core::node::NodeAgent;
use purelb_core::sim::{Options, Passage, run_seed};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn written_and_read<M: Serialize + DeserializeOwned>(machine: &M) -> M {
    postcard::from_bytes(&postcard::to_allocvec(machine).unwrap()).unwrap()
}

/// Random histories of whole clusters, with every fault that the simulator knows. In one of each pair every
/// machine is read back from a checkpoint after each turn: everything that happens is the same.
#[test]
fn a_checkpoint_loses_nothing_that_decides() {
    let agent = written_and_read::<NodeAgent>;
    let passage = Some(Passage { agent, allocator: written_and_read::<Allocator> });
    for seed in 0..24 {
        let options = Options { steps: 2_000, is_told: true, ..Options::default() };
        let plain = run_seed(seed, options);
        assert_eq!(plain.violation, None);
        assert!(plain.report.steps >= 2_000);
        let passed = run_seed(seed, Options { passage, ..options });
        assert_eq!(passed.report, plain.report, "seed {seed}");
        let (passed, plain) = (passed.story.unwrap(), plain.story.unwrap());
        for (passed, plain) in passed.entries().iter().zip(plain.entries()) {
            assert_eq!(passed, plain, "seed {seed}");
        }
    }
}
