//! The kernel module against the real kernel, each test in a network of its own.

mod changes;
mod detection;
mod questions;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ocf::Deadline;

use super::{Kernel, Lifetime, NewAddress, OldAddress};
use crate::netns::Namespace;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// A network with the interface `eth0`, which has a carrier; the other end of its cable is in the second network.
fn node() -> (Namespace, Namespace) {
    let (node, outside) = (Namespace::new(), Namespace::new());
    node.cable("eth0", &outside, "eth0");
    (node, outside)
}

fn new_address(text: &str, link: u32) -> NewAddress {
    let (address, prefix) = split(text);
    NewAddress { address, prefix, link, no_prefix_route: false, preferred: Lifetime::Forever, no_dad: false }
}

fn old_address(text: &str, link: u32) -> OldAddress {
    let (address, prefix) = split(text);
    OldAddress { address, peer: None, prefix, link }
}

fn split(text: &str) -> (IpAddr, u8) {
    let (address, prefix) = text.split_once('/').unwrap();
    (address.parse().unwrap(), prefix.parse().unwrap())
}

/// The addresses of eth0 as iproute2 sees them, without the link-local ones that the kernel makes itself.
fn seen_by_ip(network: &Namespace) -> BTreeSet<String> {
    let text = network.ip("-oneline address show dev eth0");
    let words = text.lines().map(|line| line.split_whitespace().nth(3).unwrap().to_owned());
    words.filter(|word| !word.starts_with("fe80:")).collect()
}

fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|&text| text.to_owned()).collect()
}

fn eth0(kernel: &mut Kernel) -> u32 {
    kernel.link_named("eth0").unwrap().expect("eth0 was made for this test").index
}

/// The n-th of many addresses of 10.0.0.0/8.
fn nth(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0100 + n).into()
}
