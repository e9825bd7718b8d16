//! On which interface each address belongs.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use anyhow::Result;
use ipnet::IpNet;

use crate::ip_file::Entry;
use crate::kernel::{Family, Kernel, Present};
use crate::record::{Placed, Record, Role};

/// So many addresses without a place are named one by one; the number of the others is given.
const NAMED: usize = 5;

/// The fixed addresses' subnets and their interfaces: what the default choice of an interface goes by.
struct Subnets(Vec<(IpNet, u32)>);

impl Subnets {
    /// Every subnet of an address that is not on the list: what moves says nothing about where things belong.
    fn of_fixed(present: &[Present], listed: &HashSet<IpAddr>) -> Self {
        let fixed = present.iter().filter(|present| !listed.contains(&present.address) && !present.temporary);
        let subnets = fixed.filter_map(|present| {
            let net = IpNet::new(present.address, present.prefix).ok()?;
            let host_only = net.prefix_len() == net.max_prefix_len();
            (!host_only && !present.address.is_loopback()).then_some((net.trunc(), present.link))
        });
        let mut subnets: Vec<_> = subnets.collect();
        // The most specific first, and between equals the interface that was there first.
        subnets.sort_by_key(|(net, link)| (std::cmp::Reverse(net.prefix_len()), *link));
        subnets.dedup();
        Self(subnets)
    }

    fn link_for(&self, address: IpAddr) -> Option<u32> {
        self.0.iter().find(|(net, _)| net.contains(&address)).map(|(_, link)| *link)
    }
}

/// Where the file's addresses belong on this node. The inner error says of every address without a place why it has
/// none. The places come in the order of the addresses.
///
/// An address that an active instance has stays on its interface, whatever the default choice would be by now: the
/// choice goes by fixed addresses, and a change of those must not move addresses that serve.
pub(crate) fn place(
    kernel: &mut Kernel,
    entries: &[Entry],
    present: &[Present],
    nic: Option<&str>,
    before: Option<&Record>,
) -> Result<Result<Vec<Placed>, String>> {
    let listed = entries.iter().map(|entry| entry.address).collect();
    let subnets = Subnets::of_fixed(present, &listed);
    let mut defaults = Defaults::default();
    let active = before.filter(|record| record.role == Role::Active).map(|record| record.addresses.as_slice());
    let up: HashMap<(IpAddr, u8), &Rc<str>> =
        active.unwrap_or_default().iter().map(|placed| ((placed.address, placed.prefix), &placed.interface)).collect();
    let (mut placed, mut without) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        let now = up.get(&(entry.address, entry.prefix)).copied();
        let ordered = entry.interface.as_deref().or(nic).map(Rc::from);
        let interface = match ordered.or(now.cloned()) {
            Some(name) => Ok(name),
            None => defaults.interface(kernel, &subnets, entry.address)?,
        };
        match interface {
            Ok(interface) => {
                placed.push(Placed { address: entry.address, prefix: entry.prefix, interface });
            }
            Err(why) => without.push(format!("line {}: {}: {why}", entry.line, entry.address)),
        }
    }
    if without.is_empty() {
        placed.sort_unstable();
        return Ok(Ok(placed));
    }
    let more = without.len().saturating_sub(NAMED);
    without.truncate(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Ok(Err(format!("{}{more}", without.join("; "))))
}

/// What was found out about interfaces so far: thousands of addresses share a few.
#[derive(Default)]
struct Defaults {
    names: HashMap<u32, Rc<str>>,
    routes: HashMap<bool, Option<u32>>,
}

impl Defaults {
    fn interface(
        &mut self,
        kernel: &mut Kernel,
        subnets: &Subnets,
        address: IpAddr,
    ) -> Result<Result<Rc<str>, &'static str>> {
        let link = match subnets.link_for(address) {
            Some(link) => Some(link),
            None => self.default_route(kernel, address)?,
        };
        let Some(link) = link else {
            return Ok(Err("no interface has a fixed address of its subnet, and there is no default route: name the \
                           interface after the prefix, or set nic"));
        };
        if let Some(name) = self.names.get(&link) {
            return Ok(Ok(Rc::clone(name)));
        }
        let Some(found) = kernel.link(link)? else {
            return Ok(Err("its interface vanished while it was looked at; try again"));
        };
        let name = self.names.entry(link).insert_entry(found.name.into());
        Ok(Ok(Rc::clone(name.get())))
    }

    fn default_route(&mut self, kernel: &mut Kernel, address: IpAddr) -> Result<Option<u32>> {
        if let Some(known) = self.routes.get(&address.is_ipv4()) {
            return Ok(*known);
        }
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let link = kernel.default_route(family)?;
        self.routes.insert(address.is_ipv4(), link);
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(net: &str, link: u32) -> Present {
        let net: IpNet = net.parse().unwrap();
        Present {
            address: net.addr(),
            peer: None,
            prefix: net.prefix_len(),
            link,
            secondary: false,
            temporary: false,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            permanent: true,
        }
    }

    fn link_for(fixed: &[Present], listed: &[&str], address: &str) -> Option<u32> {
        let listed = listed.iter().map(|address| address.parse().unwrap()).collect();
        Subnets::of_fixed(fixed, &listed).link_for(address.parse().unwrap())
    }

    #[test]
    fn an_address_goes_where_its_most_specific_subnet_is() {
        let fixed = [present("10.0.0.1/8", 2), present("10.1.0.1/16", 3), present("2001:db8::1/64", 4)];
        assert_eq!(link_for(&fixed, &[], "10.2.0.9"), Some(2));
        assert_eq!(link_for(&fixed, &[], "10.1.0.9"), Some(3));
        assert_eq!(link_for(&fixed, &[], "2001:db8::9"), Some(4));
        assert_eq!(link_for(&fixed, &[], "192.0.2.1"), None);
    }

    #[test]
    fn between_equal_subnets_the_older_interface_is_chosen() {
        assert_eq!(link_for(&[present("10.0.0.1/8", 5), present("10.0.0.2/8", 3)], &[], "10.2.0.9"), Some(3));
    }

    #[test]
    fn what_moves_decides_nothing() {
        let here = [present("10.0.0.1/8", 2), present("10.1.0.7/16", 3)];
        assert_eq!(link_for(&here, &["10.1.0.7"], "10.1.0.8"), Some(2));
        let temporary = Present { temporary: true, ..present("2001:db8::9/64", 2) };
        assert_eq!(link_for(&[temporary], &[], "2001:db8::1"), None);
    }

    #[test]
    fn a_host_address_or_the_loopback_net_is_no_subnet_to_go_by() {
        assert_eq!(link_for(&[present("10.1.0.7/32", 3), present("127.0.0.1/8", 1)], &[], "10.1.0.7"), None);
        assert_eq!(link_for(&[present("127.0.0.1/8", 1)], &[], "127.0.0.9"), None);
    }
}
