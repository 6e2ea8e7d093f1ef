//! The lab's Kubernetes API, for the programs and for the user's `kubectl`: in memory, or a real one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use purelb_k8s::client::connect;
use purelb_k8s::control_plane::{
    ADMIN, AUDIT_REQUESTS, Assets, ControlPlane, PlaneError, Settings, User,
};
use purelb_k8s::memory::MemoryApi;

use super::background::Background;
use super::client::Client;
use super::namespace::Namespace;
use super::state::Directory;
use super::topology::Topology;

/// The port at which the nodes find the API, as on most clusters.
const PORT: u16 = 6443;

/// The user that kube-proxy is, with the role that every API server has for it.
pub const KUBE_PROXY: &str = "system:kube-proxy";

/// A running API, reachable on the machine's loopback address (any free port) and, inside the lab,
/// at the hub's address.
#[derive(Debug)]
pub struct Api {
    outside: SocketAddr,
    inside: SocketAddr,
    client: Client,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Memory(MemoryApi),
    Real {
        // The way in first, then what it leads to.
        _forwarder: Background,
        plane: Box<ControlPlane>,
    },
}

impl Api {
    /// Starts an in-memory API; `hub` is the namespace in which the nodes look for it.
    pub fn in_memory(background: &Background, hub: &Namespace) -> io::Result<Self> {
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let inside = hub.run(|| TcpListener::bind((Topology::HUB, PORT)))??;
        let addresses = (outside.local_addr()?, inside.local_addr()?);
        let memory = MemoryApi::new();
        for listener in [outside, inside] {
            listener.set_nonblocking(true)?;
            let listener = background.enter(|| tokio::net::TcpListener::from_std(listener))?;
            let memory = memory.clone();
            background.spawn(async move { memory.serve(listener).await });
        }
        let (outside, inside) = addresses;
        let client = Client::new(outside);
        Ok(Self { outside, inside, client, server: Server::Memory(memory) })
    }

    /// Starts a real API server in `hub`, with PureLB's definitions and an audit log. It keeps its
    /// files in `directory`.
    pub fn real(
        background: &Background,
        hub: &Namespace,
        assets: &Assets,
        directory: &Directory,
    ) -> Result<Self, PlaneError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            |source| PlaneError::System { what, source }
        };
        let settings = Settings {
            address: Topology::HUB,
            port: Some(PORT),
            users: vec![User::new(KUBE_PROXY, &[])],
            audit_policy: Some(AUDIT_REQUESTS.to_owned()),
            enter: Some(hub.entry().map_err(failed("find the hub"))?),
            ..Settings::new(directory.join("control-plane"))
        };
        let plane = ControlPlane::start(assets, settings)?;
        plane.install_definitions()?;
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (outside, listener) = outside.map_err(failed("listen on the loopback address"))?;
        let inside = plane.address();
        let forwarder = forward(listener, hub, inside).map_err(failed("forward to the hub"))?;

        let kubeconfig = directory.join("kubeconfig-lab");
        std::fs::write(&kubeconfig, plane.kubeconfig_at(outside, ADMIN))
            .map_err(failed("write a kubeconfig"))?;
        let connection = background.block_on(connect(kubeconfig.to_str(), "purelb-lab"));
        let connection = connection.map_err(io::Error::other).map_err(failed("connect"))?;
        let client = Client::over(connection, background.handle());
        let server = Server::Real { _forwarder: forwarder, plane: Box::new(plane) };
        Ok(Self { outside, inside, client, server })
    }

    /// A client outside the lab.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where the user finds it.
    pub fn url(&self) -> String {
        match &self.server {
            Server::Memory(_) => format!("http://{}", self.outside),
            Server::Real { .. } => format!("https://{}", self.outside),
        }
    }

    /// A kubeconfig for the user.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_at(self.outside, ADMIN)
    }

    /// A kubeconfig for whoever is inside the lab.
    pub fn kubeconfig_inside(&self) -> String {
        self.kubeconfig_at(self.inside, ADMIN)
    }

    /// A kubeconfig for kube-proxy on a node.
    pub fn kubeconfig_of_proxy(&self) -> String {
        self.kubeconfig_at(self.inside, KUBE_PROXY)
    }

    /// The in-memory API, if it is that.
    pub fn memory(&self) -> Option<&MemoryApi> {
        match &self.server {
            Server::Memory(memory) => Some(memory),
            Server::Real { .. } => None,
        }
    }

    /// The real control plane, if it is that.
    pub fn plane(&mut self) -> Option<&mut ControlPlane> {
        match &mut self.server {
            Server::Memory(_) => None,
            Server::Real { plane, .. } => Some(plane),
        }
    }

    fn kubeconfig_at(&self, address: SocketAddr, user: &str) -> String {
        match &self.server {
            // It asks nobody who they are.
            Server::Memory(_) => MemoryApi::kubeconfig(&format!("http://{address}")),
            Server::Real { plane, .. } => plane.kubeconfig_at(address, user),
        }
    }
}

/// Carries what comes to `listener` to `target`, as seen from `hub`.
fn forward(listener: TcpListener, hub: &Namespace, target: SocketAddr) -> io::Result<Background> {
    let inside = Background::start_in(hub)?;
    listener.set_nonblocking(true)?;
    let listener = inside.enter(|| tokio::net::TcpListener::from_std(listener))?;
    inside.spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(target).await?;
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Ok(inside)
}
