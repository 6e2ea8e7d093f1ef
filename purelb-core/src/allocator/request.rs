//! The addresses that a Service asks for.

use std::net::IpAddr;

use crate::allocator::refusal::Refusal;
use crate::host::Family;
use crate::service::{FamilyPolicy, Service};

/// What a Service asks for by address.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The addresses, in order, each once.
    pub addresses: Vec<IpAddr>,
    /// Where it says so.
    pub origin: Origin,
}

/// Where a Service asks for addresses.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// In the annotation `purelb.io/addresses`.
    Annotation,
    /// In `spec.loadBalancerIP`.
    LoadBalancerIp,
}

impl Request {
    /// Reads what a Service asks for: its annotation, or else `spec.loadBalancerIP`. A blank one
    /// asks for nothing.
    ///
    /// # Errors
    ///
    /// If an address cannot be read, is there twice, or is of a family that the Service does not
    /// have. How many it may have is judged by [`Self::fits`].
    pub fn parse(service: &Service) -> Result<Option<Self>, Refusal> {
        let annotation = service.annotations.addresses.as_deref();
        let given = [
            (annotation, Origin::Annotation),
            (service.load_balancer_ip.as_deref(), Origin::LoadBalancerIp),
        ];
        let written = given.into_iter().find_map(|(text, origin)| {
            text.map(str::trim).filter(|text| !text.is_empty()).map(|text| (text, origin))
        });
        let Some((text, origin)) = written else { return Ok(None) };
        let mut addresses = Vec::new();
        for text in text.split(',').map(str::trim) {
            let ip: IpAddr =
                text.parse().map_err(|_| Refusal::RequestUnreadable { text: text.to_owned() })?;
            let ip = ip.to_canonical();
            if addresses.contains(&ip) {
                return Err(Refusal::RequestedTwice { ip });
            }
            let family = Family::of(ip);
            if !service.families.is_empty() && !service.families.contains(&family) {
                return Err(Refusal::RequestFamily { ip, family });
            }
            addresses.push(ip);
        }
        Ok(Some(Self { addresses, origin }))
    }

    /// Whether it asks for as many as the Service can have: one of each family, and with
    /// `RequireDualStack` not fewer.
    ///
    /// # Errors
    ///
    /// With the family that there are too many or too few of.
    pub fn fits(&self, service: &Service) -> Result<(), Refusal> {
        let count = |family| self.addresses.iter().filter(|ip| Family::of(**ip) == family).count();
        for family in Family::BOTH {
            if count(family) > 1 {
                return Err(Refusal::RequestTooMany { family });
            }
        }
        let missing = service.families.iter().find(|family| count(**family) == 0);
        match (service.family_policy, missing) {
            (FamilyPolicy::RequireDualStack, Some(family)) => {
                Err(Refusal::RequestIncomplete { family: *family })
            }
            (FamilyPolicy::RequireDualStack, None)
            | (FamilyPolicy::PreferDualStack | FamilyPolicy::SingleStack, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ServiceKey;

    fn asking(text: &str) -> Service {
        let mut service = Service::new(ServiceKey::new("ns", "web"), "u");
        service.families = vec![Family::V4, Family::V6];
        service.annotations.addresses = Some(text.to_owned());
        service
    }

    fn addresses(service: &Service) -> Vec<String> {
        let request = Request::parse(service).unwrap().unwrap();
        request.addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn blanks_around_addresses_do_not_matter() {
        assert_eq!(addresses(&asking(" 192.0.2.1 ,2001:db8::1 ")), ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(addresses(&asking("::ffff:192.0.2.1")), ["192.0.2.1"]);
    }

    #[test]
    fn a_blank_annotation_asks_for_nothing_and_lets_the_old_field_speak() {
        let mut service = asking("  ");
        assert_eq!(Request::parse(&service), Ok(None));
        service.load_balancer_ip = Some("192.0.2.7".to_owned());
        let request = Request::parse(&service).unwrap().unwrap();
        assert_eq!(request.origin, Origin::LoadBalancerIp);
        service.annotations.addresses = Some("192.0.2.8".to_owned());
        assert_eq!(addresses(&service), ["192.0.2.8"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, reason) in [
            ("192.0.2.1,", "cannot read \"\" as an IP address"),
            ("192.0.2.1/32", "cannot read \"192.0.2.1/32\" as an IP address"),
            ("192.0.2.1,192.0.2.1", "192.0.2.1 is asked for twice"),
        ] {
            assert_eq!(Request::parse(&asking(text)).unwrap_err().to_string(), reason);
        }
        let mut single = asking("2001:db8::1");
        single.families = vec![Family::V4];
        let refusal = Request::parse(&single).unwrap_err();
        assert!(matches!(refusal, Refusal::RequestFamily { family: Family::V6, .. }));
    }

    #[test]
    fn a_service_has_one_address_of_each_family() {
        let two = asking("192.0.2.1,192.0.2.2");
        let fits = |service: &Service| Request::parse(service).unwrap().unwrap().fits(service);
        assert_eq!(fits(&two), Err(Refusal::RequestTooMany { family: Family::V4 }));
        let mut one = asking("192.0.2.1");
        assert_eq!(fits(&one), Ok(()));
        one.family_policy = FamilyPolicy::RequireDualStack;
        assert_eq!(fits(&one), Err(Refusal::RequestIncomplete { family: Family::V6 }));
    }
}
