//! The duplicate check on real links, with real hosts at the other end.

use super::*;
use crate::netns::Namespace;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Two hosts on one cable, the second with a known hardware address.
fn hosts() -> (Namespace, Namespace) {
    let (node, other) = (Namespace::new(), Namespace::new());
    node.cable("eth0", &other, "eth0");
    other.ip("link set eth0 address 02:00:00:00:00:0b");
    (node, other)
}

const OTHER: Hardware = Hardware([0x02, 0, 0, 0, 0, 0x0b]);

/// Asks on the interface of this name.
fn ask(node: &Namespace, interface: &str, addresses: &[&str]) -> Vec<Duplicate> {
    ask_until(node, interface, addresses, soon()).unwrap()
}

fn ask_until(node: &Namespace, interface: &str, addresses: &[&str], deadline: Deadline) -> Result<Vec<Duplicate>> {
    node.run(|| {
        let link = Kernel::open(soon()).unwrap().link_named(interface).unwrap().unwrap();
        let probe = |text: &&str| Probe { address: text.parse().unwrap(), link: link.index };
        let probes: Vec<_> = addresses.iter().map(probe).collect();
        who_else(deadline, &probes, &[link])
    })
}

fn found(duplicates: &[Duplicate]) -> Vec<(String, Hardware)> {
    duplicates.iter().map(|duplicate| (duplicate.address.to_string(), duplicate.hardware)).collect()
}

#[test]
fn every_address_that_another_host_has_is_found_with_its_hardware() {
    let (node, other) = hosts();
    other.add_address("eth0", "192.0.2.2/24");
    other.add_address("eth0", "192.0.2.4/24");
    other.add_address("eth0", "2001:db8::2/64");
    let asked = ask(&node, "eth0", &["192.0.2.1", "192.0.2.2", "192.0.2.4", "2001:db8::1", "2001:db8::2"]);
    let expected = ["192.0.2.2", "192.0.2.4", "2001:db8::2"].map(|text| (text.to_owned(), OTHER));
    assert_eq!(found(&asked), expected);
}

#[test]
fn having_an_address_oneself_is_no_duplicate_and_hides_none() {
    let (node, other) = hosts();
    for address in ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "2001:db8::2/64"] {
        node.add_address("eth0", address);
    }
    other.add_address("eth0", "192.0.2.2/24");
    other.add_address("eth0", "2001:db8::2/64");
    let asked = ask(&node, "eth0", &["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]);
    assert_eq!(found(&asked), ["192.0.2.2", "2001:db8::2"].map(|text| (text.to_owned(), OTHER)));
}

/// By default Linux answers ARP on every interface for every address of the host (ip-sysctl.rst, arp_ignore).
#[test]
fn the_nodes_own_second_interface_on_the_segment_is_not_another_host() {
    let (node, switch) = (Namespace::new(), Namespace::new());
    switch.ip("link add bridge type bridge");
    switch.ip("link set bridge up");
    for interface in ["eth0", "eth1"] {
        node.cable(interface, &switch, interface);
        switch.ip(&format!("link set {interface} master bridge"));
    }
    node.add_address("eth0", "192.0.2.1/24");
    assert_eq!(ask(&node, "eth0", &["192.0.2.1"]), []);
    assert_eq!(ask(&node, "eth1", &["192.0.2.1"]), []);
    // The answers that are passed over do come: another node on the switch hears both.
    let witness = Namespace::new();
    witness.cable("eth0", &switch, "eth2");
    switch.ip("link set eth2 master bridge");
    assert_eq!(ask(&witness, "eth0", &["192.0.2.1"]).len(), 2);
}

#[test]
fn asking_leaves_no_trace_in_the_neighbours_memory() {
    let (node, other) = hosts();
    other.add_address("eth0", "192.0.2.2/24");
    ask(&node, "eth0", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let remembered = other.ip("neighbour show");
    assert!(!remembered.contains("192.0.2") && !remembered.contains("2001:db8"), "{remembered}");
}

#[test]
fn where_nobody_can_be_asked_nobody_is_waited_for() {
    let (node, other) = hosts();
    other.ip("link set eth0 down");
    let start = Instant::now();
    for interface in ["lo", "eth0"].repeat(15) {
        assert_eq!(ask(&node, interface, &["192.0.2.1", "2001:db8::1"]), []);
    }
    assert!(start.elapsed() < 30 * LAST_ANSWER, "{:?}", start.elapsed());
}

#[test]
fn a_duplicate_is_described_with_address_hardware_and_interface() {
    let (node, other) = hosts();
    other.add_address("eth0", "192.0.2.2/24");
    let link = node.run(|| Kernel::open(soon()).unwrap().link_named("eth0").unwrap().unwrap());
    let duplicate = ask(&node, "eth0", &["192.0.2.2"])[0];
    assert_eq!(duplicate.describe(&[link]), "192.0.2.2 is in use by 02:00:00:00:00:0b on eth0");
    let unnamed = format!("192.0.2.2 is in use by 02:00:00:00:00:0b on link {}", duplicate.link);
    assert_eq!(duplicate.describe(&[]), unnamed);
}

#[test]
fn many_addresses_take_little_longer_than_one() {
    let (node, other) = hosts();
    let addresses: Vec<String> = (0..500).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    for address in addresses.iter().step_by(50) {
        other.add_address("eth0", &format!("{address}/16"));
    }
    let start = Instant::now();
    let asked = ask(&node, "eth0", &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let taken = start.elapsed();
    assert_eq!(asked.len(), 10);
    // 162 ms on an idle machine.
    assert!(taken < Duration::from_secs(2), "{taken:?}");
}

#[test]
fn a_whole_segment_of_answers_is_heard() {
    let (node, other) = hosts();
    let addresses: Vec<String> = (0..1000).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    // To the kernel, addresses are local routes: one of them answers for all.
    other.ip("route add local 10.1.0.0/16 dev lo");
    let asked = ask(&node, "eth0", &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(asked.len(), 1000);
}

#[test]
fn a_check_without_enough_time_says_so() {
    let (node, _other) = hosts();
    // They take at least 2 s.
    let addresses: Vec<String> = (0..16_000).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let deadline = Deadline::after(Duration::from_secs(1));
    let error = ask_until(&node, "eth0", &addresses, deadline).unwrap_err().to_string();
    assert!(error.contains("16000 addresses did not end within 1.0s") && error.contains("duplicate_check"), "{error}");
}
