//! The adapter against the real kernel, each test in a network namespace of its own.

mod common;

use common::{address, in_namespace, index, ip, open, until, wire};
use purelb_core::host::OUR_MARK;
use purelb_core::kernel::{KernelAction, Lifetime, NewAddress};

#[test]
fn an_address_added_is_seen_with_its_mark_flags_and_lifetime() {
    in_namespace(|| async {
        wire("left", "right");
        let mut kernel = open();
        let link = index(kernel.mirror(), "left");
        for net in ["192.0.2.7/24", "2001:db8::7/64"] {
            let new = NewAddress {
                link,
                net: net.parse().unwrap(),
                lifetime: Lifetime::Seconds(30),
                deprecated: net.contains(':'),
                no_prefix_route: true,
            };
            let outcomes = kernel.apply(vec![KernelAction::AddAddress(new)]);
            assert_eq!(outcomes[0].result, Ok(()));
            let seen = until(&mut kernel, |mirror| address(mirror, net)).await;
            assert_eq!(seen.mark, OUR_MARK);
            assert!(seen.flags.no_prefix_route);
            assert!(matches!(seen.valid, Some(29 | 30)), "{seen:?}");
            println!("{seen:?}");
        }
        println!("{}", ip("-d addr show dev left"));
    });
}
