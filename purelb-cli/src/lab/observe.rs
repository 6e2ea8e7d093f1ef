//! What is really there, as `ip -j` tells it from inside a namespace, and waiting for it.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::ip::{IpError, ip};
use super::namespace::Namespace;
use super::stop::Stop;

/// How often a fact is looked for: well below what a person notices.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A link as `ip -j addr show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// Its name, such as `eth0`.
    #[serde(rename = "ifname")]
    pub name: String,
    /// Its hardware address; a tunnel may have none.
    #[serde(rename = "address", default)]
    pub mac: String,
    /// Its flags, such as `UP` and `LOWER_UP`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The addresses on it, in the kernel's order.
    #[serde(rename = "addr_info", default)]
    pub addresses: Vec<Address>,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address.
    pub local: IpAddr,
    /// The length of its prefix, in bits.
    #[serde(rename = "prefixlen")]
    pub prefix_length: u8,
    /// Its IPv4 broadcast address.
    #[serde(default)]
    pub broadcast: Option<IpAddr>,
    /// Its scope, such as `global` and `link`.
    #[serde(default)]
    pub scope: String,
    /// Whether another IPv4 address of the same subnet came first.
    #[serde(default)]
    pub secondary: bool,
    /// Seconds until the kernel removes it; `u32::MAX` is for ever.
    #[serde(rename = "valid_life_time", default)]
    pub valid_seconds: u32,
}

/// A route as `ip -j route show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// The destination: a prefix, an address, or `default`.
    #[serde(rename = "dst")]
    pub destination: String,
    /// The next hop; none on a connected route.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The link it leaves by; none when several next hops share the route.
    #[serde(rename = "dev", default)]
    pub link: Option<String>,
    /// The next hops that share the route, if there are several.
    #[serde(rename = "nexthops", default)]
    pub next_hops: Vec<NextHop>,
}

/// One of several next hops of a route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NextHop {
    /// The neighbour that the packets go to.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// An address and the link it was found on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The link's name.
    pub link: String,
    /// The address.
    pub address: Address,
}

/// The links of `namespace` with their addresses.
pub fn links(namespace: &Namespace) -> Result<Vec<Link>, IpError> {
    json(namespace, "-j addr show")
}

/// The routes of the main table, IPv4 and then IPv6.
pub fn routes(namespace: &Namespace) -> Result<Vec<Route>, IpError> {
    let mut routes: Vec<Route> = json(namespace, "-j -4 route show")?;
    routes.extend(json::<Vec<Route>>(namespace, "-j -6 route show")?);
    Ok(routes)
}

/// Every place where `address` is in `namespace`.
pub fn places(namespace: &Namespace, address: IpAddr) -> Result<Vec<Placed>, IpError> {
    let mut places = Vec::new();
    for link in links(namespace)? {
        for found in link.addresses.into_iter().filter(|found| found.local == address) {
            places.push(Placed { link: link.name.clone(), address: found });
        }
    }
    Ok(places)
}

/// The hardware address of the link called `name`.
pub fn mac(namespace: &Namespace, name: &str) -> Result<Option<String>, IpError> {
    let links = links(namespace)?;
    Ok(links.into_iter().find(|link| link.name == name).map(|link| link.mac))
}

fn json<T: DeserializeOwned>(namespace: &Namespace, arguments: &str) -> Result<T, IpError> {
    let text = ip(namespace, arguments)?;
    // iproute2 prints nothing at all where a list of routes is empty.
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).map_err(|source| IpError::Output {
        namespace: namespace.name().to_owned(),
        command: arguments.to_owned(),
        source,
    })
}

/// Why a fact was not seen.
#[derive(Debug, Error)]
pub enum Unseen {
    /// It did not come to be in time.
    #[error("not seen within {} s; instead: {instead}", limit.as_secs_f32())]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
        /// What the last look saw.
        instead: String,
    },
    /// It can no longer come to be.
    #[error("{0}")]
    Hopeless(String),
    /// The person at the keyboard wants to end.
    #[error("interrupted")]
    Interrupted,
}

/// What one look at the world found, if not the fact it looked for.
#[derive(Debug)]
pub enum Glance {
    /// Something else; look again.
    NotYet(String),
    /// Something that rules the fact out.
    Never(String),
}

impl From<IpError> for Glance {
    fn from(error: IpError) -> Self {
        Self::NotYet(error.to_string())
    }
}

/// Looks every 20 ms until the fact is there, and returns it.
pub fn wait_until<T>(
    limit: Duration,
    stop: &Stop,
    mut look: impl FnMut() -> Result<T, Glance>,
) -> Result<T, Unseen> {
    let start = Instant::now();
    loop {
        if stop.is_requested() {
            return Err(Unseen::Interrupted);
        }
        match look() {
            Ok(fact) => return Ok(fact),
            Err(Glance::Never(why)) => return Err(Unseen::Hopeless(why)),
            Err(Glance::NotYet(instead)) if start.elapsed() >= limit => {
                return Err(Unseen::TimedOut { limit, instead });
            }
            Err(Glance::NotYet(_)) => thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip -j addr show` of a node that holds an address (iproute2 6.1).
    const ADDRESSES: &str = r#"[{"ifindex":2,"link_index":3,"ifname":"eth0","flags":["BROADCAST",
        "MULTICAST","UP","LOWER_UP"],"mtu":1500,"qdisc":"noqueue","operstate":"UP","group":
        "default","txqlen":1000,"link_type":"ether","address":"00:00:5e:00:53:0b","broadcast":
        "ff:ff:ff:ff:ff:ff","link_netnsid":0,"addr_info":[{"family":"inet","local":"192.0.2.11",
        "prefixlen":24,"broadcast":"192.0.2.255","scope":"global","label":"eth0",
        "valid_life_time":4294967295,"preferred_life_time":4294967295},{"family":"inet","local":
        "192.0.2.200","prefixlen":24,"broadcast":"192.0.2.255","scope":"global","secondary":true,
        "dynamic":true,"noprefixroute":true,"label":"eth0","valid_life_time":3,
        "preferred_life_time":3},{"family":"inet6","local":"2001:db8:1::11","prefixlen":64,
        "scope":"global","nodad":true,"valid_life_time":4294967295,
        "preferred_life_time":4294967295}]}]"#;

    #[test]
    fn links_are_read_as_ip_prints_them() {
        let links: Vec<Link> = serde_json::from_str(ADDRESSES).unwrap();
        let [eth0] = links.as_slice() else { panic!("one link expected") };
        assert_eq!((eth0.name.as_str(), eth0.mac.as_str()), ("eth0", "00:00:5e:00:53:0b"));
        let seen: Vec<_> = eth0
            .addresses
            .iter()
            .map(|a| (a.local.to_string(), a.prefix_length, a.secondary, a.valid_seconds))
            .collect();
        let expected = [
            ("192.0.2.11".to_owned(), 24, false, u32::MAX),
            ("192.0.2.200".to_owned(), 24, true, 3),
            ("2001:db8:1::11".to_owned(), 64, false, u32::MAX),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn routes_are_read_as_ip_prints_them() {
        let text = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
            {"dst":"198.51.100.0/24","flags":[],"nexthops":[{"gateway":"192.0.2.11",
            "dev":"eth0","weight":1,"flags":[]}]}]"#;
        let routes: Vec<Route> = serde_json::from_str(text).unwrap();
        assert_eq!(routes[0].gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!((routes[1].destination.as_str(), &routes[1].link), ("198.51.100.0/24", &None));
        let [hop] = &routes[1].next_hops[..] else { panic!("one next hop expected") };
        assert_eq!(hop.gateway, Some("192.0.2.11".parse().unwrap()));
    }

    #[test]
    fn waiting_ends_with_the_fact_the_limit_or_the_wish_to_stop() {
        let stop = Stop::default();
        let mut looks = 0;
        let third = wait_until(Duration::from_secs(10), &stop, || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(Glance::NotYet("too few".into())) }
        });
        assert_eq!(third.unwrap(), 3);

        let never = || Err::<(), _>(Glance::NotYet("nothing".into()));
        let limit = Duration::from_millis(1);
        assert!(matches!(
            wait_until(limit, &stop, never),
            Err(Unseen::TimedOut { instead, .. }) if instead == "nothing"
        ));

        stop.request();
        assert!(matches!(wait_until(limit, &stop, never), Err(Unseen::Interrupted)));
    }
}
