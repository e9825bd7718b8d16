//! How far what is in the kernel is from what should be there.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;

use crate::kernel::{Kernel, Link, OldAddress, Present};
use crate::record::Placed;

/// The links of a set of addresses, by name; None for a name that no link has.
pub(crate) type Links = HashMap<Rc<str>, Option<Link>>;

/// The difference between the addresses that should be there and those that are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    /// Not there, or not where they belong: to be added.
    pub(crate) missing: Vec<Placed>,
    /// There with another prefix length or on another link: to be removed.
    pub(crate) astray: Vec<OldAddress>,
}

impl Drift {
    /// Compares. Each address of `wanted`, which is in the order of the addresses, should be present once, on its link and
    /// with its prefix length.
    pub(crate) fn between(wanted: &[Placed], present: &[Present], links: &Links) -> Self {
        let indices: Vec<Option<u32>> =
            wanted.iter().scan(None, |last, placed| Some(index_of(placed, links, last))).collect();
        let mut there = vec![false; wanted.len()];
        let mut drift = Self::default();
        for found in present {
            let Ok(place) = wanted.binary_search_by(|placed| placed.address.cmp(&found.address)) else { continue };
            let right = indices[place] == Some(found.link) && wanted[place].prefix == found.prefix;
            // The kernel keeps an address that lost its duplicate address detection, and does not answer for it.
            if right && !found.dad_failed {
                there[place] = true;
            } else {
                drift.astray.push(found.into());
            }
        }
        let missing = wanted.iter().zip(there).filter(|(_, there)| !there);
        drift.missing = missing.map(|(placed, _)| placed.clone()).collect();
        drift
    }

    pub(crate) fn is_none(&self) -> bool {
        self.missing.is_empty() && self.astray.is_empty()
    }
}

/// The index of an address's link. `last` remembers the answer for the next one, which as a rule is on the same.
fn index_of(placed: &Placed, links: &Links, last: &mut Option<(Rc<str>, Option<u32>)>) -> Option<u32> {
    match last {
        Some((name, index)) if *name == placed.interface => *index,
        _ => {
            let index = links.get(&placed.interface).and_then(Option::as_ref).map(|link| link.index);
            *last = Some((Rc::clone(&placed.interface), index));
            index
        }
    }
}

/// The links that `placed` names.
pub(crate) fn links_of(kernel: &mut Kernel, placed: &[Placed]) -> Result<Links> {
    let mut links = Links::new();
    let mut last = None;
    for Placed { interface, .. } in placed {
        if last != Some(interface) && !links.contains_key(interface) {
            links.insert(Rc::clone(interface), kernel.link_named(interface)?);
        }
        last = Some(interface);
    }
    Ok(links)
}

/// `1 address`, `2 addresses`.
pub(crate) fn addresses(count: usize) -> String {
    if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") }
}

/// So many of a long list are named in a sentence.
pub(crate) const SHOWN: usize = 3;

/// A few of many, for a sentence: `192.0.2.1, 192.0.2.2, 192.0.2.3 and 497 more`.
pub(crate) fn some<T: std::fmt::Display>(things: &[T]) -> String {
    and_more(&things.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>(), things.len())
}

/// The first [`SHOWN`] of so many things, in words, and how many more there are.
pub(crate) fn and_more(first: &[String], of_all: usize) -> String {
    match of_all - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32) -> (Rc<str>, Option<Link>) {
        let link = Link {
            index,
            name: name.to_owned(),
            up: true,
            carrier: true,
            loopback: false,
            no_arp: false,
            hardware: None,
        };
        (name.into(), Some(link))
    }

    fn placed(address: &str) -> Placed {
        Placed { address: address.parse().unwrap(), prefix: 24, interface: "eth0".into() }
    }

    fn present(address: &str, prefix: u8, link: u32) -> Present {
        Present {
            address: address.parse().unwrap(),
            peer: None,
            prefix,
            link,
            secondary: false,
            temporary: false,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            permanent: true,
        }
    }

    fn between(present: &[Present]) -> (usize, usize) {
        let links = Links::from([link("eth0", 2), ("eth1".into(), None)]);
        let drift = Drift::between(&[placed("192.0.2.1"), placed("192.0.2.2")], present, &links);
        (drift.missing.len(), drift.astray.len())
    }

    #[test]
    fn what_is_where_it_belongs_is_no_drift_and_others_addresses_are_none_either() {
        let fixed = present("192.0.2.9", 24, 2);
        assert_eq!(between(&[present("192.0.2.1", 24, 2), present("192.0.2.2", 24, 2), fixed]), (0, 0));
    }

    #[test]
    fn missing_misplaced_and_doubled_addresses_are_told_apart() {
        let right = present("192.0.2.1", 24, 2);
        assert_eq!(between(std::slice::from_ref(&right)), (1, 0));
        assert_eq!(between(&[right, present("192.0.2.2", 25, 2)]), (1, 1));
        assert_eq!(between(&[right, present("192.0.2.2", 24, 3)]), (1, 1));
        assert_eq!(between(&[right, present("192.0.2.2", 24, 2), present("192.0.2.2", 24, 3)]), (0, 1));
        assert_eq!(between(&[right, Present { dad_failed: true, ..present("192.0.2.2", 24, 2) }]), (1, 1));
    }

    #[test]
    fn an_interface_that_is_gone_leaves_its_addresses_missing() {
        let away = Placed { interface: "eth1".into(), ..placed("192.0.2.1") };
        let drift = Drift::between(&[away], &[], &Links::from([("eth1".into(), None)]));
        assert_eq!(drift.missing.len(), 1);
    }

    #[test]
    fn a_sentence_names_a_few_of_many() {
        assert_eq!(some(&[1, 2]), "1, 2");
        assert_eq!(some(&[1, 2, 3, 4, 5]), "1, 2, 3 and 2 more");
    }
}
