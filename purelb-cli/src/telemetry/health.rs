//! Whether the program is well: what `/healthz` and `/readyz` say, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::metrics::registered;

/// How often a loop turns that has nothing to do.
pub const BEAT: Duration = Duration::from_secs(5);

/// How long a loop may stand still before the program counts as hung.
pub const STILL: Duration = Duration::from_secs(15);

/// Whether the program is alive and ready; clones are the same.
///
/// *Ready* is synced and able to serve; who drives the machine says so by [`set_ready`](Self::set_ready).
/// *Alive* is that every loop of the program turns: each beats its [`Pulse`] at every turn, at least
/// every [`BEAT`], and one that has not for [`STILL`] is hung. Nothing else, and nothing outside this
/// process, makes a program count as dead: a new one would not reach the API either.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ready: Gauge,
    loops: Arc<Mutex<BTreeMap<&'static str, Instant>>>,
}

impl Health {
    /// Not ready yet, without loops. `purelb_ready` shows what `/readyz` says.
    pub fn new(registry: &mut Registry) -> Self {
        let help = "1 while /readyz says yes: the program is synced and able to serve";
        let ready = registered(registry, "purelb_ready", help, Gauge::default());
        Self { ready, ..Self::default() }
    }

    /// From now on `/readyz` says so.
    pub fn set_ready(&self, is_ready: bool) {
        self.ready.set(i64::from(is_ready));
    }

    /// What `/readyz` says.
    pub fn is_ready(&self) -> bool {
        self.ready.get() == 1
    }

    /// A loop begins. No two of a program have one name.
    pub fn pulse(&self, name: &'static str) -> Pulse {
        let pulse = Pulse { name, health: self.clone() };
        pulse.beat();
        pulse
    }

    /// A loop that stands still, if one does.
    pub fn hung(&self) -> Option<&'static str> {
        let loops = self.loops();
        loops.iter().find(|(_, beat)| beat.elapsed() >= STILL).map(|(name, _)| *name)
    }

    fn loops(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        // Whoever panicked with it has left a sound map.
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a loop turns. It is dropped when the loop is over.
#[derive(Debug)]
pub struct Pulse {
    name: &'static str,
    health: Health,
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        self.health.loops().insert(self.name, Instant::now());
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.health.loops().remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_named_until_it_turns_or_is_over() {
        let health = Health::default();
        assert_eq!(health.hung(), None, "there is no loop yet");
        let (standing, turning) = (health.pulse("standing"), health.pulse("turning"));
        advance(STILL - Duration::from_millis(1)).await;
        assert_eq!(health.hung(), None);
        turning.beat();
        advance(Duration::from_millis(1)).await;
        assert_eq!(health.hung(), Some("standing"));
        standing.beat();
        assert_eq!(health.hung(), None);
        advance(STILL).await;
        drop(standing);
        assert_eq!(health.hung(), Some("turning"));
        drop(turning);
        assert_eq!(health.hung(), None);
    }
}
