//! The virtual interface's alias, and the ARP guard that is noted in it.
//!
//! Linux answers ARP for any address of the host from any interface. An address on the virtual
//! interface that lies in the subnet of a network card would so be answered for by that card. While
//! that is so, the card gets `arp_ignore=1` and `arp_announce=2`. The values it had are noted in the
//! virtual interface's alias first, where the next process finds them if this one is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::host::{Link, LinkConf, LinkIndex};
use crate::kernel::{ConfKey, KernelAction};

const CREATED: &str = "purelb:created";
const FOUND: &str = "purelb:found";
const PROMOTE: &str = "promote_secondaries=";

/// What the alias of the virtual interface says.
///
/// After whatever text was there before us: whether we made the interface, then what is to be put
/// back. `purelb:created eth0:0:0` says that eth0 had `arp_ignore` 0 and `arp_announce` 0; an
/// interface name can hold neither a colon nor a blank.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Text of others, kept.
    before: String,
    /// Who made the interface; `None` if the alias says nothing of us.
    pub maker: Option<Maker>,
    /// The `promote_secondaries` that an interface we found had.
    pub promote_secondaries: Option<i32>,
    /// The `arp_ignore` and `arp_announce` that guarded interfaces had.
    pub guarded: BTreeMap<String, (i32, i32)>,
}

/// Who made the virtual interface.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Maker {
    /// It was there before us: not ours to delete.
    Others,
    /// We did.
    Us,
}

impl Note {
    /// The note on an interface that we make.
    pub fn created() -> Self {
        Self { maker: Some(Maker::Us), ..Self::default() }
    }

    /// Reads an alias. What makes no sense is dropped.
    pub fn parse(alias: &str) -> Self {
        let start = [CREATED, FOUND].iter().filter_map(|word| alias.find(word)).min();
        let Some(start) = start else {
            return Self { before: alias.trim_end().to_owned(), ..Self::default() };
        };
        let mut note = Self { before: alias[..start].trim_end().to_owned(), ..Self::default() };
        for word in alias[start..].split_whitespace() {
            if word == CREATED {
                note.maker = Some(Maker::Us);
            } else if word == FOUND {
                note.maker = Some(Maker::Others);
            } else if let Some(value) = word.strip_prefix(PROMOTE) {
                note.promote_secondaries = value.parse().ok();
            } else if let Some((name, values)) = parse_guarded(word) {
                note.guarded.insert(name.to_owned(), values);
            }
        }
        note
    }
}

fn parse_guarded(word: &str) -> Option<(&str, (i32, i32))> {
    let mut parts = word.split(':');
    let (name, ignore, announce) = (parts.next()?, parts.next()?, parts.next()?);
    let values = (ignore.parse().ok()?, announce.parse().ok()?);
    (parts.next().is_none() && !name.is_empty()).then_some((name, values))
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        if !self.before.is_empty() {
            words.push(self.before.clone());
        }
        words.extend(self.maker.map(|maker| match maker {
            Maker::Others => FOUND.to_owned(),
            Maker::Us => CREATED.to_owned(),
        }));
        words.extend(self.promote_secondaries.map(|value| format!("{PROMOTE}{value}")));
        words.extend(
            self.guarded
                .iter()
                .map(|(name, (ignore, announce))| format!("{name}:{ignore}:{announce}")),
        );
        f.write_str(&words.join(" "))
    }
}

/// Whether a link answers ARP only for its own addresses.
pub fn is_guarded(conf: LinkConf) -> bool {
    conf.arp_ignore >= 1 && conf.arp_announce >= 2
}

/// What to do so that the links in `needed` are guarded, those that no longer need it have their old
/// values back, and the virtual link keeps its secondaries. One thing at a time: a value is changed
/// only once the alias is seen to hold the old one, and forgotten only once it is seen to be back.
pub fn changes<'a>(
    needed: &BTreeSet<LinkIndex>,
    keep_secondaries: bool,
    virtual_link: &Link,
    links: impl IntoIterator<Item = &'a Link>,
) -> Vec<KernelAction> {
    let noted = Note::parse(&virtual_link.alias);
    let mut note = noted.clone();
    let mut actions = Vec::new();
    let mut names = BTreeSet::new();
    for link in links {
        names.insert(link.name.as_str());
        let conf = link.conf;
        match (needed.contains(&link.index), noted.guarded.get(&link.name)) {
            (true, None) if !is_guarded(conf) => {
                note.guarded.insert(link.name.clone(), (conf.arp_ignore, conf.arp_announce));
            }
            (true, Some(_)) if !is_guarded(conf) => {
                let settings = vec![
                    (ConfKey::ArpIgnore, conf.arp_ignore.max(1)),
                    (ConfKey::ArpAnnounce, conf.arp_announce.max(2)),
                ];
                actions.push(KernelAction::SetConf { link: link.index, settings });
            }
            (false, Some((ignore, announce))) => {
                if (conf.arp_ignore, conf.arp_announce) == (*ignore, *announce) {
                    note.guarded.remove(&link.name);
                } else {
                    let settings =
                        vec![(ConfKey::ArpIgnore, *ignore), (ConfKey::ArpAnnounce, *announce)];
                    actions.push(KernelAction::SetConf { link: link.index, settings });
                }
            }
            (true, _) | (false, None) => {}
        }
    }
    note.guarded.retain(|name, _| names.contains(name.as_str()));
    promote(keep_secondaries, virtual_link, &noted, &mut note, &mut actions);
    if note != noted {
        if note.maker.is_none() {
            note.maker = Some(Maker::Others);
        }
        let has_something = note.promote_secondaries.is_some() || !note.guarded.is_empty();
        if note.maker == Some(Maker::Others) && !has_something {
            note.maker = None;
        }
        actions.push(KernelAction::SetAlias { link: virtual_link.index, alias: note.to_string() });
    }
    actions
}

fn promote(
    wanted: bool,
    link: &Link,
    noted: &Note,
    note: &mut Note,
    actions: &mut Vec<KernelAction>,
) {
    let set = |value| KernelAction::SetConf {
        link: link.index,
        settings: vec![(ConfKey::PromoteSecondaries, value)],
    };
    let current = link.conf.promote_secondaries;
    match (wanted, noted.maker, noted.promote_secondaries) {
        (true, Some(Maker::Us), _) | (true, _, Some(_)) if current != 1 => actions.push(set(1)),
        (true, None | Some(Maker::Others), None) if current != 1 => {
            note.promote_secondaries = Some(current);
        }
        (false, _, Some(old)) if current != old => actions.push(set(old)),
        (false, _, Some(_)) => note.promote_secondaries = None,
        (true | false, _, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::LinkKind;

    fn link(index: u32, name: &str, alias: &str, conf: LinkConf) -> Link {
        Link {
            index: LinkIndex(index),
            name: name.into(),
            mac: None,
            kind: LinkKind::Other,
            up: true,
            carrier: true,
            loopback: false,
            alias: alias.into(),
            conf,
        }
    }

    /// Applies actions as a kernel would, until none remains.
    fn settle(needed: &[u32], keep: bool, links: &mut [Link]) -> Vec<String> {
        let needed: BTreeSet<_> = needed.iter().copied().map(LinkIndex).collect();
        let mut told = Vec::new();
        for _ in 0..10 {
            let actions = changes(&needed, keep, &links[0], links.iter());
            if actions.is_empty() {
                return told;
            }
            for action in actions {
                match action.clone() {
                    KernelAction::SetAlias { link, alias } => {
                        told.push(format!("alias {alias}"));
                        links.iter_mut().find(|l| l.index == link).unwrap().alias = alias;
                    }
                    KernelAction::SetConf { link, settings } => {
                        let link = links.iter_mut().find(|l| l.index == link).unwrap();
                        for (key, value) in settings {
                            told.push(format!("{} {key:?} {value}", link.name));
                            match key {
                                ConfKey::ArpAnnounce => link.conf.arp_announce = value,
                                ConfKey::ArpIgnore => link.conf.arp_ignore = value,
                                ConfKey::PromoteSecondaries => {
                                    link.conf.promote_secondaries = value
                                }
                            }
                        }
                    }
                    KernelAction::AddAddress(_)
                    | KernelAction::Advertise { .. }
                    | KernelAction::CreateVirtual { .. }
                    | KernelAction::DeleteVirtual { .. }
                    | KernelAction::Heed { .. }
                    | KernelAction::Probe { .. }
                    | KernelAction::RemoveAddress(_)
                    | KernelAction::Unheed { .. } => panic!("{action:?}"),
                }
            }
        }
        panic!("never settles: {told:?}");
    }

    #[test]
    fn old_values_are_noted_before_they_are_changed_and_put_back_after() {
        let promoting = LinkConf { promote_secondaries: 1, ..LinkConf::default() };
        let mut links = [
            link(1, "kube-lb0", CREATED, promoting),
            link(2, "eth0", "", LinkConf { arp_announce: 1, ..LinkConf::default() }),
        ];
        assert_eq!(
            settle(&[2], true, &mut links),
            ["alias purelb:created eth0:0:1", "eth0 ArpIgnore 1", "eth0 ArpAnnounce 2"]
        );
        assert!(is_guarded(links[1].conf));
        // Another process finds the note and needs no guard: it puts the old values back.
        assert_eq!(
            settle(&[], true, &mut links),
            ["eth0 ArpIgnore 0", "eth0 ArpAnnounce 1", "alias purelb:created"]
        );
    }

    #[test]
    fn an_interface_that_we_found_gets_its_own_alias_back() {
        let mut links = [
            link(1, "kube-lb0", "rack 7", LinkConf::default()),
            link(2, "eth0", "", LinkConf::default()),
        ];
        assert_eq!(
            settle(&[], true, &mut links),
            ["alias rack 7 purelb:found promote_secondaries=0", "kube-lb0 PromoteSecondaries 1"]
        );
        assert_eq!(
            settle(&[], false, &mut links),
            ["kube-lb0 PromoteSecondaries 0", "alias rack 7"]
        );
    }

    #[test]
    fn a_guard_of_the_administrators_is_left_alone() {
        let strict = LinkConf { arp_ignore: 2, arp_announce: 2, promote_secondaries: 1 };
        let mut links = [link(1, "kube-lb0", CREATED, strict), link(2, "eth0", "", strict)];
        assert!(settle(&[2], true, &mut links).is_empty());
    }

    #[test]
    fn notes_survive_a_round_trip_and_nonsense_is_dropped() {
        let text = "mine: yes purelb:found promote_secondaries=0 bond0:1:0 eth0.7:0:2";
        assert_eq!(Note::parse(text).to_string(), text);
        assert_eq!(Note::parse("purelb:created eth0:x:1 a:b :1:2").to_string(), "purelb:created");
        assert_eq!(Note::parse("").to_string(), "");
    }
}
