//! The order in which addresses are removed, so that others' addresses stay.
//!
//! When an IPv4 address that is the primary of its subnet goes, the kernel either makes the next one primary or deletes
//! all others of the subnet on that link, depending on promote_secondaries (`__inet_del_ifa` in net/ipv4/devinet.c;
//! Documentation/networking/ip-sysctl.rst). Which are primary depends on the order in which they came.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::errno::Errno;

use super::Kernel;
use super::address::Present;
use super::change::OldAddress;
use super::datagram::Refusal;

/// A subnet on a link: the primary address with exactly this prefix length carries the secondaries.
type Subnet = (u32, IpNet);

/// In which order to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RemovalOrder {
    /// Everything that can go without touching another address: first secondaries, which are then not promoted one
    /// after another, then primaries.
    pub(crate) free: Vec<OldAddress>,
    /// Primaries on which addresses hang that are to stay.
    pub(crate) carrying: Vec<OldAddress>,
}

/// Orders the removal of `doomed`, given all addresses `present` in the kernel's order. An address of `doomed` that is
/// not present is kept in the order: the kernel will say that it is gone.
pub(crate) fn removal_order(present: &[Present], doomed: &[OldAddress]) -> RemovalOrder {
    let known: HashMap<OldAddress, usize> = present.iter().map(OldAddress::from).zip(0..).collect();
    let going: HashSet<OldAddress> = doomed.iter().copied().collect();
    let staying_on: HashSet<Subnet> = present
        .iter()
        .filter(|address| address.secondary && !going.contains(&OldAddress::from(*address)))
        .filter_map(|address| subnet(&address.into()))
        .collect();
    let (mut secondaries, mut others, mut carrying) = (Vec::new(), Vec::new(), Vec::new());
    // The kernel finds an address by walking the link's list: the list's order makes each walk short.
    let mut ordered: Vec<(usize, OldAddress)> =
        doomed.iter().map(|old| (known.get(old).copied().unwrap_or(usize::MAX), *old)).collect();
    ordered.sort_by_key(|&(position, _)| position);
    ordered.dedup();
    for (position, old) in ordered {
        let secondary = present.get(position).is_some_and(|address| address.secondary);
        let carries = !secondary && subnet(&old).is_some_and(|subnet| staying_on.contains(&subnet));
        match (secondary, carries) {
            (true, _) => secondaries.push(old),
            (false, true) => carrying.push(old),
            (false, false) => others.push(old),
        }
    }
    secondaries.append(&mut others);
    RemovalOrder { free: secondaries, carrying }
}

/// The subnet as `inet_ifa_match` compares it (include/linux/inetdevice.h): IFA_ADDRESS under the mask. None for IPv6,
/// which has no secondaries.
fn subnet(old: &OldAddress) -> Option<Subnet> {
    let net = match old.peer.unwrap_or(old.address) {
        IpAddr::V4(address) => IpNet::new(address.into(), old.prefix).ok()?,
        IpAddr::V6(_) => return None,
    };
    Some((old.link, net.trunc()))
}

impl Kernel {
    /// Removes `doomed`, given all addresses `present`, without taking others' addresses away: promote_secondaries is
    /// set for the moment on each link where that is necessary. The answers are in the order of `doomed`; see
    /// [`Kernel::remove`] for what they mean.
    pub(crate) fn withdraw(&mut self, present: &[Present], doomed: &[OldAddress]) -> Result<Vec<Result<(), Refusal>>> {
        let order = removal_order(present, doomed);
        let mut answers = HashMap::new();
        answers.extend(order.free.iter().copied().zip(self.remove(&order.free)?));
        answers.extend(order.carrying.iter().copied().zip(self.remove_carrying(&order.carrying)?));
        Ok(doomed.iter().filter_map(|old| answers.get(old).cloned()).collect())
    }

    fn remove_carrying(&mut self, carrying: &[OldAddress]) -> Result<Vec<Result<(), Refusal>>> {
        let links: HashSet<u32> = carrying.iter().map(|old| old.link).collect();
        let (mut promoting, mut unwilling) = (Vec::new(), HashMap::new());
        for index in links {
            // A link that is gone has taken all its addresses along.
            let Some(link) = self.link(index)? else { continue };
            match Promotion::enable(&link.name) {
                Ok(promotion) => promoting.push(promotion),
                Err(error) => {
                    let said = format!("{error:#}; without it addresses of others on {} would go too", link.name);
                    unwilling.insert(index, Refusal { errno: Errno::EROFS, said: Some(said) });
                }
            }
        }
        let possible: Vec<OldAddress> =
            carrying.iter().filter(|old| !unwilling.contains_key(&old.link)).copied().collect();
        let mut answers = self.remove(&possible)?.into_iter();
        for promotion in promoting {
            promotion.restore()?;
        }
        Ok(carrying
            .iter()
            .filter_map(|old| unwilling.get(&old.link).map(|refusal| Err(refusal.clone())).or_else(|| answers.next()))
            .collect())
    }
}

/// promote_secondaries of one link, on for as long as this lives. Should the process be killed meanwhile it stays on, which
/// takes no address away from anybody.
pub(crate) struct Promotion {
    /// The file to write 0 to at the end; None if it was on before.
    setting: Option<PathBuf>,
}

impl Promotion {
    /// Switches it on, unless it is in force already: for all links or for this one.
    pub(crate) fn enable(link: &str) -> Result<Self> {
        if promotes_secondaries("all")? || promotes_secondaries(link)? {
            return Ok(Self { setting: None });
        }
        let path = setting(link);
        write(&path, "1")?;
        Ok(Self { setting: Some(path) })
    }

    /// Sets it back to what it was.
    pub(crate) fn restore(mut self) -> Result<()> {
        self.setting.take().map_or(Ok(()), |path| switch_off(&path))
    }
}

impl Drop for Promotion {
    fn drop(&mut self) {
        if let Some(path) = self.setting.take() {
            // Only after another error, which is the one to report.
            switch_off(&path).ok();
        }
    }
}

/// Whether /proc says that secondaries are promoted, for a link or for `all`; the kernel takes either
/// (`IN_DEV_PROMOTE_SECONDARIES` in include/linux/inetdevice.h).
pub(crate) fn promotes_secondaries(link: &str) -> Result<bool> {
    let path = setting(link);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim() != "0")
}

/// An interface name contains neither a slash nor only dots (`dev_valid_name` in net/core/dev.c).
fn setting(link: &str) -> PathBuf {
    ["/proc/sys/net/ipv4/conf", link, "promote_secondaries"].iter().collect()
}

fn switch_off(path: &PathBuf) -> Result<()> {
    if path.exists() { write(path, "0") } else { Ok(()) }
}

fn write(path: &PathBuf, value: &str) -> Result<()> {
    std::fs::write(path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH0: u32 = 2;
    const ETH1: u32 = 3;

    fn present(text: &str, link: u32, secondary: bool) -> Present {
        let (address, prefix) = text.split_once('/').unwrap();
        Present {
            address: address.parse().unwrap(),
            peer: None,
            prefix: prefix.parse().unwrap(),
            link,
            secondary,
            temporary: false,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            permanent: true,
        }
    }

    fn olds(present: &[Present], addresses: &[&str]) -> Vec<OldAddress> {
        let find = |text: &&str| present.iter().find(|present| present.address.to_string() == *text).unwrap().into();
        addresses.iter().map(find).collect()
    }

    #[test]
    fn secondaries_go_before_primaries_and_each_kind_in_the_kernels_order() {
        let present = [
            present("192.0.2.1/24", ETH0, false),
            present("198.51.100.1/24", ETH0, false),
            present("192.0.2.2/24", ETH0, true),
            present("192.0.2.3/24", ETH0, true),
            present("2001:db8::1/64", ETH0, false),
        ];
        let doomed = olds(&present, &["2001:db8::1", "192.0.2.3", "192.0.2.1", "192.0.2.2"]);
        let order = removal_order(&present, &doomed);
        let expected = olds(&present, &["192.0.2.2", "192.0.2.3", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(order, RemovalOrder { free: expected, carrying: vec![] });
    }

    #[test]
    fn a_primary_that_carries_an_address_of_others_is_set_apart() {
        let present = [
            present("192.0.2.1/24", ETH0, false),
            present("192.0.2.1/25", ETH0, false),
            present("192.0.2.99/24", ETH0, true),
            present("192.0.2.2/24", ETH1, false),
        ];
        let doomed: Vec<OldAddress> = [0, 1, 3].map(|index: usize| (&present[index]).into()).to_vec();
        let order = removal_order(&present, &doomed);
        // Not those with another prefix length or on another link: nothing hangs on them.
        assert_eq!(order, RemovalOrder { free: vec![doomed[1], doomed[2]], carrying: vec![doomed[0]] });
    }

    #[test]
    fn a_point_to_point_address_belongs_to_the_subnet_of_its_peer() {
        let mut pair = present("198.51.100.1/24", ETH0, false);
        pair.peer = Some("192.0.2.9".parse().unwrap());
        let present = [pair, present("192.0.2.99/24", ETH0, true)];
        let doomed = [OldAddress::from(&pair)];
        assert_eq!(removal_order(&present, &doomed).carrying, doomed);
    }

    #[test]
    fn what_is_doomed_twice_goes_once_and_what_is_not_there_is_still_asked_for() {
        let there = present("192.0.2.1/24", ETH0, false);
        let absent = OldAddress::from(&present("203.0.113.1/24", ETH1, false));
        let order = removal_order(&[there], &[absent, (&there).into(), (&there).into()]);
        assert_eq!(order, RemovalOrder { free: vec![(&there).into(), absent], carrying: vec![] });
    }
}
