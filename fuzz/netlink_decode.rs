//! Any bytes from a netlink or packet socket are taken in or refused, never a panic; what the mirror
//! tells is what it then shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use purelb_core::store::Change;
use purelb_netlink::HostChange;
use purelb_netlink::decode::Message;
use purelb_netlink::frame::Frame;
use purelb_netlink::mirror::Mirror;
use purelb_netlink::wire::messages;

fuzz_target!(|bytes: &[u8]| {
    if let Some(frame) = Frame::parse(bytes) {
        let _ = frame.packet.claim();
    }
    let mut mirror = Mirror::default();
    for raw in messages(bytes).flatten() {
        let Ok(message) = Message::decode(&raw) else { continue };
        let Ok(changes) = mirror.apply(message) else { return };
        for change in changes {
            if let HostChange::Links(Change::Updated(link)) = change {
                assert_eq!(mirror.link(link.index), Some(&link));
            }
        }
    }
});
