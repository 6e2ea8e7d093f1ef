//! Recordings of simulated agents.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use purelb_cli::recording::{AgentSettings, Bytes, Recorded, Recording};
use purelb_core::host::Ownership;
use purelb_core::machine::Machine;
use purelb_core::name::NodeName;
use purelb_core::node::NodeAgent;
use purelb_core::sim::{FaultKind, Input, ServiceKind, Setup, Simulation};

/// When simulations begin, in seconds since 1970: 2026-11-25 12:00:00 UTC.
pub(crate) const BEGAN: u64 = 1_795_608_000;

/// More than any of them needs.
pub(crate) const ALL: Bytes = Bytes(64 << 20);

/// Three nodes and some Services: an agent is killed and comes back, a link goes down, an agent is stopped and
/// started. `pass` lets time pass.
pub(crate) fn story(mut pass: impl FnMut(&mut Simulation, Duration)) -> Simulation {
    let mut setup = Setup::new(3, 3).with_services(3);
    setup.services.extend([ServiceKind::DualStack, ServiceKind::Remote]);
    let mut sim = Simulation::new(&setup);
    sim.keep_transcript();
    let seconds = Duration::from_secs;
    pass(&mut sim, seconds(14));
    sim.fault(FaultKind::Killed, 0, seconds(8));
    pass(&mut sim, seconds(16));
    sim.fault(FaultKind::LinkDown, 1, seconds(4));
    pass(&mut sim, seconds(16));
    sim.fault(FaultKind::Stopped, 2, seconds(3));
    pass(&mut sim, seconds(12));
    assert!(sim.violation().is_none(), "{:?}", sim.violation());
    sim
}

/// The recordings of every process of every agent, up to now or its end, by node and by the number of the
/// process. Each kept about so many bytes.
pub(crate) fn recordings(sim: &Simulation, size: Bytes) -> BTreeMap<(NodeName, u32), Recording> {
    let mut agents: BTreeMap<(NodeName, u32), (Instant, Recorded<NodeAgent>)> = BTreeMap::new();
    for told in sim.transcript() {
        let key = (told.node.clone(), told.life);
        if let Input::Started(lease) = &told.what {
            let settings =
                AgentSettings { lease: lease.clone(), pace: None, ownership: Ownership::Mark };
            let agent = Recorded::new(settings, told.node.as_str(), size, told.at);
            agents.insert(key, (told.at, agent));
            continue;
        }
        let Some((_, agent)) = agents.get_mut(&key) else { continue };
        match &told.what {
            Input::Drained => while agent.poll_action().is_some() {},
            Input::Event(event) => agent.handle_event(event.as_ref().clone(), told.at),
            Input::Started(_) => {}
            Input::Timeout => agent.handle_timeout(told.at),
        }
    }
    let file = |(start, agent): (Instant, Recorded<NodeAgent>)| {
        let mut recording = Recording::read(&agent.file(start).unwrap()).unwrap();
        let Recording::Agent(tape) = &mut recording else { unreachable!() };
        let began = Duration::from_secs(BEGAN) + start.duration_since(sim.epoch());
        tape.header.began = u64::try_from(began.as_nanos()).unwrap();
        recording
    };
    agents.into_iter().map(|(key, agent)| (key, file(agent))).collect()
}
