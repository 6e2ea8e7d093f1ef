//! The cases: what is done, and what is read off.

use std::cell::Cell;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::calls::{Call, Calls, kinds};
use super::figures::{Row, Spread, ms, rate};
use super::processes::{processor_time, resident_kib};
use super::scene::{Families, Scene};
use super::sight::Seen;
use super::{BenchError, by_hand};
use crate::lab::ip::ip;

/// A class of Services that PureLB leaves alone.
const FOREIGN: &str = "example.org/foreign";

/// How long after a burst what is resident is looked at once more.
const CALM: Duration = Duration::from_secs(30);

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{what}-{number}")).collect()
}

/// One Service after the other.
pub(super) fn single(mut scene: Scene) -> Result<Vec<Row>, BenchError> {
    scene.start_programs()?;
    let (mut answered, mut placed) = (Vec::new(), Vec::new());
    for (number, name) in names("single", 300).into_iter().enumerate() {
        let created = scene.create([name], Families::One)?;
        scene.until("an address", Scene::OFTEN, |seen| seen.held() > number)?;
        scene.until("the answer", Scene::OFTEN, |seen| {
            created.keys().all(|name| seen.ingress.contains_key(name))
        })?;
        let seen = scene.sight.look();
        for (name, created) in created {
            if let Some((_, Some(at))) = seen.services.get(&name) {
                answered.push(at.saturating_duration_since(created));
            }
            let address = seen.ingress.get(&name).and_then(|ingress| ingress.first());
            if let Some(at) = address.and_then(|address| seen.appeared.get(address)) {
                placed.push(at.saturating_duration_since(created));
            }
        }
    }
    let foreign = names("foreign", 300);
    scene.create_of_class(foreign.clone(), Families::One, Some(FOREIGN))?;
    let (mut patched, mut delivered) = (Vec::new(), Vec::new());
    for name in &foreign {
        let start = Instant::now();
        patched.push(scene.patch_status(name)?);
        let name = format!("default/{name}");
        scene.until("a delivery", Scene::OFTEN, |seen| seen.ingress.contains_key(&name))?;
        if let Some((_, Some(at))) = scene.sight.look().services.get(&name) {
            delivered.push(at.saturating_duration_since(start));
        }
    }
    let spread = |values: Vec<Duration>| values.into_iter().collect::<Spread>().text();
    let bare = format!("one status PATCH and its delivery: {}", spread(delivered));
    Ok(vec![
        Row::new("one Service created → address in its status", spread(answered)).beside(bare),
        Row::new("… → address on the interface", spread(placed))
            .beside(format!("one status PATCH: {}", spread(patched))),
    ])
}

/// Many Services at once.
pub(super) fn burst(
    start: impl Fn(usize) -> Result<Scene, BenchError>,
    count: usize,
) -> Result<Vec<Row>, BenchError> {
    let (alone, servers_alone) = {
        let mut scene = start(0)?;
        scene.watch_as_programs_do()?;
        let servers = Processes::begin(scene.servers())?;
        let services = names("burst", count);
        let begin = Instant::now();
        scene.create(services.clone(), Families::One)?;
        let created = begin.elapsed();
        let begin = Instant::now();
        scene.patch_statuses(&services)?;
        let patched = begin.elapsed();
        let text = format!(
            "{count} POSTs {}, then {count} status PATCHes {} ({})",
            ms(created),
            ms(patched),
            rate(count, patched)
        );
        (text, servers.times()?)
    };
    let mut scene = start(1)?;
    scene.start_programs()?;
    let processes = Processes::begin(scene.processes())?;
    let servers = Processes::begin(scene.servers())?;
    let calls = scene.note_calls()?;
    let begin = Instant::now();
    let created = scene.create(names("burst", count), Families::One)?;
    let all_created = begin.elapsed();
    scene.until("all addresses", Scene::NOW_AND_THEN, |seen| seen.held() == count)?;
    let (all_placed, lags) = {
        let seen = scene.sight.look();
        let last = seen.appeared.values().max().copied().unwrap_or(begin);
        let lag = created.iter().filter_map(|(name, at)| {
            let placed = seen.appeared.get(seen.ingress.get(name)?.first()?)?;
            Some(placed.saturating_duration_since(*at))
        });
        (last - begin, lag.collect::<Spread>())
    };
    scene.until("all answers", Scene::NOW_AND_THEN, |seen| seen.ingress.len() >= count)?;
    let (used, servers) = (processes.end()?, servers.times()?);
    let mut rows = vec![
        Row::new(
            format!("{count} Services at once → all on interfaces"),
            format!(
                "{} ({}); the last was created after {}",
                ms(all_placed),
                rate(count, all_placed),
                ms(all_created)
            ),
        )
        .beside(alone),
        Row::new("… each, from its creation to the interface", lags.text()),
        Row::new("… processor time and memory", used),
        Row::new("… processor time of others", servers).beside(servers_alone),
    ];
    rows.extend(writes(&scene, &calls, count)?);
    thread::sleep(CALM);
    rows.push(Row::new("… memory half a minute later", memory(scene.processes())?));
    if count >= 10_000 {
        rows.push(restart(&mut scene)?);
    }
    Ok(rows)
}

/// What the programs wrote, for each of `count` Services.
fn writes(scene: &Scene, calls: &Calls, count: usize) -> Result<Vec<Row>, BenchError> {
    let nodes = scene.addresses_of_nodes();
    let all = calls.all()?;
    let is_write = |call: &&Call| !matches!(call.verb.as_str(), "get" | "list");
    // The bench itself may come through the hub, as the allocator does, and creates.
    let is_ours = |call: &&Call| call.verb != "create" || !call.path.ends_with("/services");
    let (agents, others): (Vec<_>, Vec<_>) =
        all.iter().filter(is_write).filter(is_ours).partition(|call| nodes.contains(&call.client));
    let each = |calls: &[&Call]| format!("{:.2}", calls.len() as f64 / count as f64);
    Ok(vec![Row::new(
        "… API writes per Service",
        format!(
            "allocator {}: {}; agents {}: {}",
            each(&others),
            kinds(others.iter().copied()),
            each(&agents),
            kinds(agents.iter().copied())
        ),
    )])
}

/// The allocator starts where many Services are.
fn restart(scene: &mut Scene) -> Result<Row, BenchError> {
    scene.cluster.stop_allocator()?;
    let before = scene.sight.look().ingress.len();
    scene.create(["late".to_owned()], Families::One)?;
    let begin = Instant::now();
    scene.cluster.start_allocator()?;
    scene.until("the late answer", Scene::OFTEN, |seen| seen.ingress.len() > before)?;
    let at = match scene.sight.look().services.get("default/late") {
        Some((_, Some(at))) => *at,
        Some((_, None)) | None => Instant::now(),
    };
    let processes = scene.processes().into_iter();
    let allocator: Vec<_> = processes.filter(|(name, _)| name.starts_with("allocator")).collect();
    let then = memory(allocator.clone())?;
    thread::sleep(CALM);
    Ok(Row::new(
        format!("allocator started with {before} Services → its first answer"),
        format!("{}; then {then}; half a minute later {}", ms(at - begin), memory(allocator)?),
    ))
}

/// An agent is asked to stop.
pub(super) fn stop(mut scene: Scene, of_node: usize) -> Result<Vec<Row>, BenchError> {
    let nodes = scene.cluster.topology().nodes().len();
    let alone = by_hand::moves(&mut scene, of_node)?;
    settle(&mut scene, of_node * nodes)?;
    calm(&mut scene)?;
    let (mut moved, mut left, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for node in 0..nodes {
        let (begin, addresses) = (Instant::now(), scene.sight.look().of_node(node));
        scene.cluster.stop_agent(node)?;
        moved_since(&mut scene, &addresses, node)?;
        {
            let seen = scene.sight.look();
            for address in &addresses {
                let (Some(at), Some(gone)) = (seen.appeared.get(address), seen.gone.get(address))
                else {
                    continue;
                };
                moved.push(at.saturating_duration_since(begin));
                left.push(gone.saturating_duration_since(begin));
                absent.push(at.saturating_duration_since(*gone));
            }
        }
        scene.cluster.start_agent(node)?;
        settled(&mut scene, node, of_node * nodes)?;
        calm(&mut scene)?;
    }
    let spread = |values: Vec<Duration>| values.into_iter().collect::<Spread>().text();
    Ok(vec![
        Row::new(
            format!("planned stop of an agent with about {of_node} addresses → on another node"),
            spread(moved),
        )
        .beside(format!("the same requests to the kernels alone: {}", alone.text())),
        Row::new("… → off the one that stops", spread(left)),
        Row::new("… each without a holder for", spread(absent)),
        doubles("… two nodes holding one address, in stops and returns", &scene.sight.look()),
    ])
}

/// A node is lost; an agent alone is killed, and returns.
pub(super) fn crash(mut scene: Scene) -> Result<Vec<Row>, BenchError> {
    let nodes = scene.cluster.topology().nodes().len();
    let count = 40 * nodes;
    settle(&mut scene, count)?;
    let mut rows = Vec::new();
    for (what, with_cable) in [("crash of a node", true), ("agent alone killed", false)] {
        let mut moved = Vec::new();
        for node in 0..nodes {
            let (begin, addresses) = (Instant::now(), scene.sight.look().of_node(node));
            if with_cable {
                scene.cluster.topology().cut_off(scene.cluster.node(node))?;
            }
            scene.cluster.kill_agent(node)?;
            moved_since(&mut scene, &addresses, node)?;
            {
                let seen = scene.sight.look();
                let appeared = addresses.iter().filter_map(|address| seen.appeared.get(address));
                moved.extend(appeared.map(|at| at.saturating_duration_since(begin)));
            }
            if with_cable {
                scene.cluster.topology().reconnect(scene.cluster.node(node))?;
            }
            scene.cluster.start_agent(node)?;
            settled(&mut scene, node, count)?;
        }
        let moved: Spread = moved.into_iter().collect();
        rows.push(Row::new(format!("{what}, about 40 addresses → on another node"), moved.text()));
        let what = "… two nodes holding one address, from the loss to the return";
        rows.push(doubles(what, &scene.sight.look()));
        scene.sight.look().doubles.clear();
    }
    Ok(rows)
}

/// Somebody deletes addresses.
pub(super) fn deleted(mut scene: Scene) -> Result<Vec<Row>, BenchError> {
    settle(&mut scene, 120)?;
    let mut back = Vec::new();
    for round in 0..100 {
        let (address, node) = {
            let seen = scene.sight.look();
            let mut held = seen.holders.iter();
            // Every address has a holder once all is settled.
            let Some((address, holders)) = held.nth(round) else { continue };
            let Some(node) = holders.first() else { continue };
            (*address, *node)
        };
        let length = if address.is_ipv4() { 16 } else { 64 };
        let begin = Instant::now();
        ip(scene.cluster.node(node), &format!("addr del {address}/{length} dev eth0"))?;
        scene.until("the address", Scene::OFTEN, |seen| {
            seen.appeared.get(&address).is_some_and(|at| *at > begin)
        })?;
        let seen = scene.sight.look();
        if let (Some(at), Some(gone)) = (seen.appeared.get(&address), seen.gone.get(&address)) {
            back.push(at.saturating_duration_since(*gone));
        }
    }
    let back: Spread = back.into_iter().collect();
    Ok(vec![Row::new("address deleted by hand → back", back.text())])
}

/// Nothing happens, without Services and with 330.
pub(super) fn idle(mut scene: Scene) -> Result<Vec<Row>, BenchError> {
    const WATCHED: Duration = Duration::from_secs(30);
    scene.start_programs()?;
    let nodes = scene.addresses_of_nodes();
    let mut rows = Vec::new();
    for count in [0, 330] {
        scene.create(names("idle", count), Families::One)?;
        scene.until("all addresses", Scene::NOW_AND_THEN, |seen| seen.held() == count)?;
        // What is left to do after a change, such as announcements and Events, is soon done.
        thread::sleep(Duration::from_secs(15));
        let (processes, calls) = (Processes::begin(scene.processes())?, scene.note_calls()?);
        let begin = Instant::now();
        thread::sleep(WATCHED);
        let (used, seconds) = (processes.end()?, begin.elapsed().as_secs_f64());
        let all = calls.all()?;
        let (agents, others): (Vec<_>, Vec<_>) =
            all.iter().partition(|call| nodes.contains(&call.client));
        let each = agents.len() as f64 / nodes.len() as f64 / seconds;
        rows.push(Row::new(
            format!("idle for {} s with {count} Services: API calls", WATCHED.as_secs()),
            format!(
                "{each:.2} per second and agent ({}); allocator: {}",
                kinds(agents.into_iter()),
                kinds(others.into_iter())
            ),
        ));
        rows.push(Row::new("… processor time and memory", used));
    }
    Ok(rows)
}

/// Starts the programs and gives so many addresses, of both families, to Services.
fn settle(scene: &mut Scene, addresses: usize) -> Result<(), BenchError> {
    scene.start_programs()?;
    let services = names("both", addresses / Families::Both.count());
    scene.create(services, Families::Both)?;
    let total = addresses / Families::Both.count() * Families::Both.count();
    scene.until("all addresses", Scene::NOW_AND_THEN, |seen| seen.held() == total)
}

/// Waits until nobody is told of what happened any more: Events and annotations go on long after a
/// change.
fn calm(scene: &mut Scene) -> Result<(), BenchError> {
    const WATCHED: Duration = Duration::from_secs(2);
    let calls = scene.note_calls()?;
    let before = Cell::new(None);
    scene.until("calm", WATCHED, |_| {
        let is_news = |call: &&Call| !call.path.contains("/leases/");
        let now = calls.all().ok().map(|calls| calls.iter().filter(is_news).count());
        now.is_some() && before.replace(now) == now
    })
}

/// Waits until each of these addresses is on another node.
fn moved_since(scene: &mut Scene, addresses: &[IpAddr], node: usize) -> Result<(), BenchError> {
    scene.until("the addresses on other nodes", Scene::NOW_AND_THEN, |seen| {
        addresses.iter().all(|address| {
            let holders = seen.holders.get(address);
            holders.is_some_and(|holders| holders.iter().any(|holder| *holder != node))
        })
    })
}

/// Waits until the node has addresses again, and every address one holder.
fn settled(scene: &mut Scene, node: usize, addresses: usize) -> Result<(), BenchError> {
    let addresses = addresses / 2 * 2;
    scene.until("the return of the agent", Scene::NOW_AND_THEN, |seen| {
        let alone = seen.holders.values().filter(|holders| holders.len() == 1).count();
        alone == addresses && !seen.of_node(node).is_empty()
    })
}

fn doubles(what: &str, seen: &Seen) -> Row {
    let longest: Spread = seen.doubles.iter().copied().collect();
    let measured = match seen.doubles.len() {
        0 => "never".to_owned(),
        count => format!("{count} times, {}", longest.text()),
    };
    Row::new(what, measured)
}

/// What the programs take between two moments.
struct Processes(Vec<(String, u32, Duration)>);

impl Processes {
    fn begin(processes: Vec<(String, u32)>) -> Result<Self, BenchError> {
        let begin = processes.into_iter().map(|(name, id)| Ok((name, id, processor_time(id)?)));
        Ok(Self(begin.collect::<Result<_, BenchError>>()?))
    }

    /// The processor time alone.
    fn times(self) -> Result<String, BenchError> {
        let used = self.0.into_iter().map(|(name, id, begin)| {
            Ok(format!("{name} {}", ms(processor_time(id)?.saturating_sub(begin))))
        });
        Ok(used.collect::<Result<Vec<_>, BenchError>>()?.join("; "))
    }

    /// That, and the memory that is resident now.
    fn end(self) -> Result<String, BenchError> {
        let used = self.0.into_iter().map(|(name, id, begin)| {
            let time = processor_time(id)?.saturating_sub(begin);
            Ok(format!("{name} {}, {}", ms(time), resident(id)?))
        });
        Ok(used.collect::<Result<Vec<_>, BenchError>>()?.join("; "))
    }
}

/// How much memory each process has.
fn memory(processes: impl IntoIterator<Item = (String, u32)>) -> Result<String, BenchError> {
    let each = processes.into_iter().map(|(name, id)| Ok(format!("{name} {}", resident(id)?)));
    Ok(each.collect::<Result<Vec<_>, BenchError>>()?.join("; "))
}

fn resident(id: u32) -> Result<String, BenchError> {
    Ok(format!("{:.1} MiB", resident_kib(id)? as f64 / 1024.0))
}
