//! The lab's Kubernetes API: in memory, over HTTP, for the programs and for the user's `kubectl`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use purelb_k8s::memory::MemoryApi;

use super::background::Background;
use super::client::Client;
use super::namespace::Namespace;
use super::topology::Topology;

/// The port at which the nodes find the API, as on most clusters.
const PORT: u16 = 6443;

/// A running API, reachable on the machine's loopback address (any free port) and, inside the lab,
/// at the hub's address.
#[derive(Debug)]
pub struct Api {
    outside: SocketAddr,
    inside: SocketAddr,
}

impl Api {
    /// Starts to serve; `hub` is the namespace in which the nodes look for it.
    pub fn start(background: &Background, hub: &Namespace) -> io::Result<Self> {
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let inside = hub.run(|| TcpListener::bind((Topology::HUB, PORT)))??;
        let started = Self { outside: outside.local_addr()?, inside: inside.local_addr()? };
        let memory = MemoryApi::new();
        for listener in [outside, inside] {
            listener.set_nonblocking(true)?;
            let listener = background.enter(|| tokio::net::TcpListener::from_std(listener))?;
            let memory = memory.clone();
            background.spawn(async move { memory.serve(listener).await });
        }
        Ok(started)
    }

    /// A client outside the lab.
    pub fn client(&self) -> Client {
        Client::new(self.outside)
    }

    /// Where the user finds it.
    pub fn url(&self) -> String {
        format!("http://{}", self.outside)
    }

    /// A kubeconfig for the user.
    pub fn kubeconfig(&self) -> String {
        MemoryApi::kubeconfig(&self.url())
    }

    /// A kubeconfig for whoever is inside the lab.
    pub fn kubeconfig_inside(&self) -> String {
        MemoryApi::kubeconfig(&format!("http://{}", self.inside))
    }
}
