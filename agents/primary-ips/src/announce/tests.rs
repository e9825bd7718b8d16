//! Announcements on real links, with real hosts that believe them.

use super::*;
use crate::frame::claim;
use crate::kernel::Kernel;
use crate::netns::Namespace;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A node with a known hardware address and a host at the other end of its cable.
fn hosts() -> (Namespace, Namespace) {
    let (node, other) = (Namespace::new(), Namespace::new());
    node.cable("eth0", &other, "eth0");
    node.ip("link set eth0 address 02:00:00:00:00:0a");
    (node, other)
}

fn announce_on(node: &Namespace, interface: &str, addresses: &[IpAddr], form: Form, rate: u32) -> Announced {
    announce_until(node, interface, addresses, form, rate, soon())
}

fn announce_until(
    node: &Namespace,
    interface: &str,
    addresses: &[IpAddr],
    form: Form,
    rate: u32,
    deadline: Deadline,
) -> Announced {
    node.run(|| {
        let link = Kernel::open(soon()).unwrap().link_named(interface).unwrap().unwrap();
        let owned: Vec<_> = addresses.iter().map(|&address| Owned { address, link: link.index }).collect();
        announce(deadline, &owned, &[link], form, rate).unwrap()
    })
}

fn many(count: u16) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from([10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect()
}

fn sent(count: usize) -> Announced {
    Announced { sent: count, ..Announced::default() }
}

#[test]
fn a_neighbour_that_knew_the_address_elsewhere_learns_where_it_is() {
    for form in [Form::Request, Form::Reply] {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let (node, other) = hosts();
            other.add_address("eth0", "192.0.2.9/24");
            other.add_address("eth0", "2001:db8::9/64");
            other.ip(&format!("neighbour replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"));
            assert_eq!(announce_on(&node, "eth0", &[address.parse().unwrap()], form, 100), sent(1));
            let believed = other.ip(&format!("neighbour show to {address} dev eth0"));
            assert!(believed.contains("lladdr 02:00:00:00:00:0a"), "{form:?} {address}: {believed}");
        }
    }
}

#[test]
fn each_address_is_announced_once_and_at_the_rate() {
    let (node, other) = hosts();
    let listener = other.run(|| {
        let link = Kernel::open(soon()).unwrap().link_named("eth0").unwrap().unwrap().index;
        PacketSocket::open(link, Listen::Arp).unwrap()
    });
    let addresses = many(100);
    let start = Instant::now();
    assert_eq!(announce_on(&node, "eth0", &addresses, Form::Reply, 200), sent(100));
    let taken = start.elapsed();
    assert!((495..1500).contains(&taken.as_millis()), "100 at 200 a second took {taken:?}");
    let mut frame = [0; 256];
    let mut heard = Vec::new();
    while let Some(length) = listener.receive(&mut frame).unwrap() {
        heard.extend(claim(&frame[..length]).map(|claim| claim.address));
    }
    assert_eq!(heard, addresses);
}

#[test]
fn a_thousand_at_a_high_rate_all_go_out() {
    let (node, _other) = hosts();
    let start = Instant::now();
    assert_eq!(announce_on(&node, "eth0", &many(1000), Form::Request, 100_000), sent(1000));
    let taken = start.elapsed();
    assert!(taken < Duration::from_secs(1), "{taken:?}");
}

#[test]
fn where_there_is_nobody_to_tell_addresses_are_skipped() {
    let (node, other) = hosts();
    let skipped = Announced { skipped: 3, ..Announced::default() };
    assert_eq!(announce_on(&node, "lo", &many(3), Form::Request, 100), skipped);
    node.ip("link set eth0 arp off");
    assert_eq!(announce_on(&node, "eth0", &many(3), Form::Request, 100), skipped);
    node.ip("link set eth0 arp on");
    assert_eq!(announce_on(&node, "eth0", &many(3), Form::Request, 100), sent(3));
    other.ip("link set eth0 down");
    assert_eq!(announce_on(&node, "eth0", &many(3), Form::Request, 100), skipped);
}

#[test]
fn a_link_that_goes_down_meanwhile_does_not_stop_the_rest() {
    let (node, _other) = hosts();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            node.ip("link set eth0 down");
        });
        announce_on(&node, "eth0", &many(100), Form::Request, 200)
    });
    assert!(result.sent > 0 && result.skipped > 0 && result.sent + result.skipped == 100, "{result:?}");
}

#[test]
fn what_the_deadline_comes_before_is_counted() {
    let (node, _other) = hosts();
    let deadline = Deadline::after(Duration::from_millis(300));
    let result = announce_until(&node, "eth0", &many(100), Form::Request, 100, deadline);
    assert!(result.late > 0 && result.sent > 0 && result.sent + result.late == 100, "{result:?}");
}
