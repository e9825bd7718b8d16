//! Addresses, links and routes read.

use rtnetlink::packet_core::NLMSG_DONE;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::super::{Family, Present};
use super::*;

fn found(network: &Namespace, address: &str) -> Vec<Present> {
    let address: IpAddr = address.parse().unwrap();
    let all = network.run(|| Kernel::open(soon()).unwrap().addresses().unwrap());
    all.into_iter().filter(|present| present.address == address).collect()
}

#[test]
fn addresses_come_with_the_flags_that_the_kernel_gave_them() {
    let (node, _outside) = node();
    node.add_address("eth0", "192.0.2.1/24");
    node.add_address("eth0", "192.0.2.2/24");
    node.add_address("eth0", "192.0.2.3/25");
    node.ip("address add 198.51.100.1 peer 203.0.113.9/32 dev eth0");
    node.ip("address add 2001:db8::1/64 dev eth0 nodad preferred_lft 0");
    node.ip("address add 2001:db8::2/64 dev eth0 nodad valid_lft 600 preferred_lft 600");
    let link = node.run(|| eth0(&mut Kernel::open(soon()).unwrap()));
    let plain = |text: &str| {
        let (address, prefix) = split(text);
        Present {
            address,
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
    };
    assert_eq!(found(&node, "192.0.2.1"), [plain("192.0.2.1/24")]);
    assert_eq!(found(&node, "192.0.2.2"), [Present { secondary: true, ..plain("192.0.2.2/24") }]);
    assert_eq!(found(&node, "192.0.2.3"), [plain("192.0.2.3/25")]);
    let peer = Some("203.0.113.9".parse().unwrap());
    assert_eq!(found(&node, "198.51.100.1"), [Present { peer, ..plain("198.51.100.1/32") }]);
    assert_eq!(found(&node, "2001:db8::1"), [Present { deprecated: true, ..plain("2001:db8::1/64") }]);
    assert_eq!(found(&node, "2001:db8::2"), [Present { permanent: false, ..plain("2001:db8::2/64") }]);
    assert_eq!(found(&node, "127.0.0.1").len(), 1);
    assert_eq!(found(&node, "::1").len(), 1);
}

#[test]
fn a_list_that_changes_while_it_is_read_is_read_whole() {
    const FIXED: u32 = 3000;
    let (node, _outside) = node();
    let (mut reader, mut changer) = node.run(|| (Kernel::open(soon()).unwrap(), Kernel::open(soon()).unwrap()));
    let link = eth0(&mut reader);
    let fixed: Vec<_> = (0..FIXED).map(|n| NewAddress { address: nth(n), ..new_address("0.0.0.0/8", link) }).collect();
    assert!(reader.add(&fixed).unwrap().iter().all(Result::is_ok));
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for _ in 0..60 {
                // It is the primary of another subnet: the kernel puts it before the secondaries, and each change shifts
                // the place where a reading goes on.
                assert!(changer.add(&[new_address("172.16.0.1/12", link)]).unwrap()[0].is_ok());
                assert!(changer.remove(&[old_address("172.16.0.1/12", link)]).unwrap()[0].is_ok());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        while !changing.is_finished() {
            let present = reader.addresses().unwrap();
            let ours: Vec<_> = present.iter().filter(|present| present.prefix == 8 && present.link == link).collect();
            let different: BTreeSet<_> = ours.iter().map(|present| present.address).collect();
            assert_eq!((ours.len(), different.len()), (3000, 3000));
        }
    });
}

#[test]
fn what_another_process_sends_is_not_the_kernels_answer() {
    let (node, _outside) = node();
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let port = kernel.route.socket().bind_auto().unwrap();
        let liar = Socket::new(NETLINK_ROUTE).unwrap();
        // "That was all", in the name of the question that comes next.
        let next = kernel.route.number_requests(0);
        let mut forged = 20u32.to_ne_bytes().to_vec();
        forged.extend(NLMSG_DONE.to_ne_bytes());
        forged.extend([0; 2]);
        forged.extend(next.to_ne_bytes());
        forged.extend([0; 8]);
        liar.send_to(&forged, &SocketAddr::new(port.port_number(), 0), 0).unwrap();
        assert!(!kernel.addresses().unwrap().is_empty());
    });
}

#[test]
fn a_link_is_found_by_name_by_alternative_name_and_by_index() {
    let (node, _outside) = node();
    node.ip("link property add dev eth0 altname a-name-of-more-than-fifteen-letters");
    node.ip("link set eth0 address 02:00:00:00:00:0a");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = kernel.link_named("eth0").unwrap().unwrap();
        assert!(link.up && link.carrier && !link.loopback && !link.no_arp, "{link:?}");
        assert_eq!(link.hardware, Some([2, 0, 0, 0, 0, 0x0a]));
        let by_other_name = Kernel::open(soon()).unwrap().link_named("a-name-of-more-than-fifteen-letters").unwrap();
        assert_eq!(by_other_name, Some(link.clone()));
        assert_eq!(Kernel::open(soon()).unwrap().link(link.index).unwrap(), Some(link));
        let loopback = kernel.link_named("lo").unwrap().unwrap();
        assert!(loopback.loopback && loopback.hardware.is_none(), "{loopback:?}");
    });
}

#[test]
fn a_link_that_is_not_there_is_none_whatever_it_is_called() {
    let (node, _outside) = node();
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        for name in ["", "eth9", "a/b", ".", "a name with blanks in it", &"x".repeat(300)] {
            assert_eq!(kernel.link_named(name).unwrap(), None, "{name:?}");
        }
        assert_eq!(kernel.link(4711).unwrap(), None);
    });
}

#[test]
fn carrier_administrator_and_arp_are_told_apart() {
    let (node, outside) = node();
    let look = || node.run(|| Kernel::open(soon()).unwrap().link_named("eth0").unwrap().unwrap());
    outside.ip("link set eth0 down");
    let cut = look();
    assert!(cut.up && !cut.carrier, "{cut:?}");
    node.ip("link set eth0 down arp off");
    let down = look();
    assert!(!down.up && !down.carrier && down.no_arp, "{down:?}");
}

#[test]
fn the_default_route_is_the_main_tables_with_the_lowest_metric() {
    let (node, outside) = node();
    node.cable("eth1", &outside, "eth1");
    node.add_address("eth0", "192.0.2.1/24");
    node.add_address("eth1", "198.51.100.1/24");
    let default = |family| {
        node.run(|| {
            let mut kernel = Kernel::open(soon()).unwrap();
            let index = kernel.default_route(family).unwrap();
            index.map(|index| kernel.link(index).unwrap().unwrap().name)
        })
    };
    assert_eq!((default(Family::V4), default(Family::V6)), (None, None));
    node.ip("route add default via 192.0.2.254 dev eth0 metric 200");
    node.ip("route add default via 198.51.100.254 dev eth1 table 100 metric 1");
    assert_eq!((default(Family::V4).as_deref(), default(Family::V6)), (Some("eth0"), None));
    node.ip("route add default via 198.51.100.254 dev eth1 metric 100");
    assert_eq!(default(Family::V4).as_deref(), Some("eth1"));
    node.ip("route add default metric 50 nexthop via 192.0.2.253 dev eth0 nexthop via 198.51.100.253 dev eth1");
    assert_eq!(default(Family::V4).as_deref(), Some("eth0"));
    node.ip("route add unreachable default metric 5");
    node.ip("-6 route add default via fe80::1 dev eth1 metric 300");
    node.ip("-6 route add default via fe80::2 dev eth0 metric 250");
    assert_eq!((default(Family::V4).as_deref(), default(Family::V6).as_deref()), (Some("eth0"), Some("eth0")));
    outside.ip("link set eth0 down");
    assert_eq!(default(Family::V4).as_deref(), Some("eth0"), "without a carrier it is the default route still");
}

#[test]
fn nothing_is_waited_for_beyond_the_deadline() {
    let (node, _outside) = node();
    node.run(|| {
        let mut kernel = Kernel::open(Deadline::after(Duration::ZERO)).unwrap();
        let error = format!("{:#}", kernel.addresses().unwrap_err());
        assert!(error.contains("the kernel did not answer about addresses within"), "{error}");
    });
}
