//! Duplicate address detection by the kernel, waited for.

use std::net::Ipv6Addr;

use super::super::events::{AddressEvent, DadReport};
use super::*;

/// A node whose eth0 asks for duplicates before it uses an IPv6 address.
fn careful_node() -> (Namespace, Namespace) {
    let (node, outside) = node();
    node.set("ipv6/conf/eth0/accept_dad", "1");
    (node, outside)
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn one_wait_covers_the_confirmed_and_the_refuted() {
    let (node, outside) = careful_node();
    outside.add_address("eth0", "2001:db8::2/64");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let mut events = kernel.watch_ipv6().unwrap();
        let wanted = ["2001:db8::1/64", "2001:db8::2/64", "2001:db8::3/64"].map(|text| new_address(text, link));
        assert_eq!(kernel.add(&wanted).unwrap(), vec![Ok(()); 3]);
        let three = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| (v6(text), link));
        let report = kernel.wait_for_dad(&mut events, &three, soon()).unwrap();
        let expected = DadReport { failed: vec![(v6("2001:db8::2"), link)], ..DadReport::default() };
        assert_eq!(report, expected);
    });
    let shown = node.ip("-oneline -6 address show dev eth0 tentative");
    assert!(shown.contains("2001:db8::2/64") && shown.contains("dadfailed"), "{shown}");
    assert!(!shown.contains("2001:db8::1/64") && !shown.contains("2001:db8::3/64"), "{shown}");
}

#[test]
fn without_a_carrier_the_wait_ends_at_its_deadline() {
    let (node, outside) = careful_node();
    outside.ip("link set eth0 down");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let mut events = kernel.watch_ipv6().unwrap();
        assert_eq!(kernel.add(&[new_address("2001:db8::1/64", link)]).unwrap(), [Ok(())]);
        let one = [(v6("2001:db8::1"), link)];
        let report = kernel.wait_for_dad(&mut events, &one, Deadline::after(Duration::from_millis(300))).unwrap();
        assert_eq!(report, DadReport { unfinished: one.to_vec(), ..DadReport::default() });
    });
}

#[test]
fn an_address_taken_away_meanwhile_is_not_waited_for() {
    let (node, outside) = careful_node();
    outside.ip("link set eth0 down");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let mut events = kernel.watch_ipv6().unwrap();
        assert_eq!(kernel.add(&[new_address("2001:db8::1/64", link)]).unwrap(), [Ok(())]);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                node.ip("address del 2001:db8::1/64 dev eth0");
            });
            kernel.wait_for_dad(&mut events, &[(v6("2001:db8::1"), link)], soon()).unwrap()
        });
        assert_eq!(report, DadReport { gone: vec![(v6("2001:db8::1"), link)], ..DadReport::default() });
    });
}

#[test]
fn lost_events_lead_to_a_look_at_the_addresses() {
    let (node, _outside) = careful_node();
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let mut events = kernel.watch_ipv6().unwrap();
        events.shrink_receive_buffer();
        let many: Vec<Ipv6Addr> = (1..=200u16).map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)).collect();
        let wanted: Vec<_> =
            many.iter().map(|&address| NewAddress { address: address.into(), ..new_address("::/64", link) }).collect();
        assert!(kernel.add(&wanted).unwrap().iter().all(Result::is_ok));
        let lost = std::iter::from_fn(|| events.next(Deadline::after(Duration::ZERO)).unwrap());
        assert!(lost.into_iter().any(|event| event == AddressEvent::Lost), "no event was lost, so nothing was tried");
        let all: Vec<_> = many.iter().map(|&address| (address, link)).collect();
        let report = kernel.wait_for_dad(&mut events, &all, soon()).unwrap();
        assert_eq!(report, DadReport::default());
    });
}
