//! A node's default routes, as `ip -j route show default` tells them.

use serde::Deserialize;

/// The default routes of both families, as a person would write them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    v4: Vec<String>,
    v6: Vec<String>,
}

impl DefaultRoutes {
    /// Reads what `ip -j -4 route show default` and `ip -j -6 route show default` print.
    ///
    /// # Errors
    ///
    /// If it is not what `ip` prints.
    pub fn parse(v4: &str, v6: &str) -> Result<Self, serde_json::Error> {
        Ok(Self { v4: routes(v4)?, v6: routes(v6)? })
    }

    /// The families with more than one, with what they are called. One route with several next hops is
    /// several.
    pub fn several(&self) -> Vec<(&'static str, &[String])> {
        let both = [("IPv4", &*self.v4), ("IPv6", &*self.v6)];
        both.into_iter().filter(|(_, routes)| routes.len() > 1).collect()
    }
}

fn routes(json: &str) -> Result<Vec<String>, serde_json::Error> {
    // Without any, older ones print nothing at all.
    let json = if json.trim().is_empty() { "[]" } else { json };
    let routes: Vec<Route> = serde_json::from_str(json)?;
    let routes =
        routes.into_iter().filter(|route| route.kind.as_deref().unwrap_or("unicast") == "unicast");
    Ok(routes
        .flat_map(|route| {
            let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
            let hops = if route.nexthops.is_empty() { vec![route.hop] } else { route.nexthops };
            hops.into_iter().map(move |hop| {
                let via = hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                let dev = hop.dev.map(|dev| format!(" dev {dev}")).unwrap_or_default();
                format!("default{via}{dev}{metric}")
            })
        })
        .collect())
}

#[derive(Deserialize)]
struct Route {
    #[serde(rename = "type")]
    kind: Option<String>,
    metric: Option<u32>,
    #[serde(default)]
    nexthops: Vec<Hop>,
    #[serde(flatten)]
    hop: Hop,
}

#[derive(Deserialize)]
struct Hop {
    gateway: Option<String>,
    dev: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iproute2 6.1 prints them.
    #[test]
    fn routes_next_hops_and_other_types_are_told_apart() {
        let v4 = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]}]"#;
        let v6 = r#"[
            {"dst":"default","metric":1024,"flags":[],"pref":"medium","nexthops":[
                {"gateway":"fe80::1","dev":"eth0","weight":1,"flags":[]},
                {"gateway":"fe80::2","dev":"eth0","weight":1,"flags":[]}]},
            {"type":"unreachable","dst":"default","dev":"lo","metric":4294967295,"flags":[]}]"#;
        let routes = DefaultRoutes::parse(v4, v6).unwrap();
        let expected = [
            "default via fe80::1 dev eth0 metric 1024".to_owned(),
            "default via fe80::2 dev eth0 metric 1024".to_owned(),
        ];
        assert_eq!(routes.several(), [("IPv6", &expected[..])]);
        assert_eq!(DefaultRoutes::parse("", "[]").unwrap(), DefaultRoutes::default());
        DefaultRoutes::parse("Usage: ip", "").unwrap_err();
    }
}
