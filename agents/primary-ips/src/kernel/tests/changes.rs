//! Addresses added and removed.

use nix::errno::Errno;

use super::super::{added, removed};
use super::*;

#[test]
fn an_address_is_added_as_iproute2_would_add_it() {
    let (node, _outside) = node();
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let wanted = [
            new_address("192.0.2.1/24", link),
            new_address("192.0.2.64/31", link),
            NewAddress { no_prefix_route: true, ..new_address("198.51.100.1/24", link) },
            NewAddress { preferred: Lifetime::Seconds(0), ..new_address("203.0.113.1/32", link) },
            NewAddress { preferred: Lifetime::Seconds(0), no_dad: true, ..new_address("2001:db8::1/64", link) },
        ];
        assert_eq!(kernel.add(&wanted).unwrap(), vec![Ok(()); 5]);
    });
    let shown = node.ip("-oneline address show dev eth0");
    let line = |address: &str| shown.lines().find(|line| line.contains(address)).unwrap_or_else(|| panic!("{shown}"));
    assert!(line("192.0.2.1/24").contains("brd 192.0.2.255 scope global eth0"), "{shown}");
    assert!(!line("192.0.2.64/31").contains("brd"), "{shown}");
    assert!(line("198.51.100.1/24").contains("noprefixroute"), "{shown}");
    assert!(line("203.0.113.1/32").contains("deprecated"), "{shown}");
    assert!(line("2001:db8::1/64").contains("nodad") && line("2001:db8::1/64").contains("deprecated"), "{shown}");
    let routes = node.ip("route show");
    assert!(routes.contains("192.0.2.0/24") && !routes.contains("198.51.100.0/24"), "{routes}");
}

#[test]
fn the_kernels_no_comes_back_in_its_place_and_words() {
    let (node, _outside) = node();
    node.add_address("eth0", "192.0.2.2/24");
    node.add_address("eth0", "2001:db8::2/64");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let wanted = ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::2/128", "192.0.2.3/24"];
        let mut wanted = wanted.map(|text| new_address(text, link)).to_vec();
        wanted.push(new_address("192.0.2.4/24", 4711));
        let answers = kernel.add(&wanted).unwrap();
        let errnos: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|refusal| refusal.errno)).collect();
        let expected = [Ok(&()), Err(Errno::EEXIST), Err(Errno::EEXIST), Ok(&()), Err(Errno::ENODEV)];
        assert_eq!(errnos, expected);
        assert_eq!(answers.iter().map(added).collect::<Vec<_>>(), [true, true, true, true, false]);
        // In the kernel since 4.12 (NETLINK_EXT_ACK); the sentence for EEXIST is younger.
        let words = answers[4].as_ref().unwrap_err().to_string();
        assert!(words.contains("ENODEV") && words.contains("Device not found"), "{words}");
    });
}

#[test]
fn exactly_the_named_address_is_removed() {
    let (node, _outside) = node();
    for address in ["192.0.2.1/24", "192.0.2.1/25", "192.0.2.1/32", "198.51.100.1 peer 203.0.113.9/32"] {
        node.add_address("eth0", address);
    }
    node.add_address("eth0", "2001:db8::1/64");
    let expected_before = ["192.0.2.1/24", "192.0.2.1/25", "192.0.2.1/32", "198.51.100.1", "2001:db8::1/64"];
    assert_eq!(seen_by_ip(&node), set(&expected_before));
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let doomed = ["192.0.2.1/25", "192.0.2.1/30", "2001:db8::1/128", "192.0.2.7/24"];
        let mut doomed = doomed.map(|text| old_address(text, link)).to_vec();
        doomed.push(old_address("192.0.2.1/24", 4711));
        let answers = kernel.remove(&doomed).unwrap();
        let errnos: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|refusal| refusal.errno)).collect();
        let not_there = Err(Errno::EADDRNOTAVAIL);
        assert_eq!(errnos, [Ok(&()), not_there, not_there, not_there, Err(Errno::ENODEV)]);
        assert!(answers.iter().all(removed));
    });
    assert_eq!(seen_by_ip(&node), set(&["192.0.2.1/24", "192.0.2.1/32", "198.51.100.1", "2001:db8::1/64"]));
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let present = kernel.addresses().unwrap();
        let pair = present.iter().find(|present| present.peer.is_some()).unwrap();
        assert_eq!(kernel.remove(&[pair.into()]).unwrap(), [Ok(())]);
    });
    assert_eq!(seen_by_ip(&node), set(&["192.0.2.1/24", "192.0.2.1/32", "2001:db8::1/64"]));
}

#[test]
fn ten_thousand_come_and_go_at_once() {
    const COUNT: u32 = 10_000;
    let (node, _outside) = node();
    node.add_address("eth0", "10.0.0.1/8");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let wanted: Vec<_> =
            (0..COUNT).map(|n| NewAddress { address: nth(n), ..new_address("0.0.0.0/8", link) }).collect();
        assert!(kernel.add(&wanted).unwrap().iter().all(Result::is_ok));
        let present = kernel.addresses().unwrap();
        let doomed: Vec<OldAddress> =
            present.iter().filter(|present| present.address >= nth(0)).map(OldAddress::from).collect();
        let doomed: Vec<_> = doomed.into_iter().filter(|old| old.link == link && old.prefix == 8).collect();
        assert_eq!(doomed.len(), 10_000);
        assert!(kernel.withdraw(&present, &doomed).unwrap().iter().all(Result::is_ok));
    });
    assert_eq!(seen_by_ip(&node), set(&["10.0.0.1/8"]));
}

#[test]
fn lost_answers_are_asked_for_again() {
    let (node, _outside) = node();
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        // The kernel makes it SOCK_MIN_RCVBUF (include/net/sock.h), which holds a handful of answers.
        kernel.route.socket().set_rx_buf_sz(1u32).unwrap();
        let wanted: Vec<_> =
            (0..300).map(|n| NewAddress { address: nth(n), ..new_address("0.0.0.0/8", link) }).collect();
        let answers = kernel.add(&wanted).unwrap();
        assert_eq!(answers.len(), 300);
        assert!(answers.iter().all(added), "{answers:?}");
        assert!(answers.iter().any(Result::is_err), "no answer was lost, so nothing was tried");
        let doomed: Vec<_> =
            (0..300).map(|n| OldAddress { address: nth(n), ..old_address("0.0.0.0/8", link) }).collect();
        let present = kernel.addresses().unwrap();
        let answers = kernel.withdraw(&present, &doomed).unwrap();
        assert!(answers.len() == 300 && answers.iter().all(removed), "{answers:?}");
    });
    assert_eq!(seen_by_ip(&node), set(&[]));
}

/// Adds a primary and two secondaries of ours around one secondary of somebody else's, removes ours, returns what stays.
fn withdraw_around_a_foreign_address(node: &Namespace) -> BTreeSet<String> {
    for address in ["192.0.2.1/24", "192.0.2.2/24", "192.0.2.99/24", "192.0.2.3/24", "198.51.100.1/24"] {
        node.add_address("eth0", address);
    }
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        let doomed = ["192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"].map(|text| old_address(text, link));
        let present = kernel.addresses().unwrap();
        assert_eq!(kernel.withdraw(&present, &doomed).unwrap(), vec![Ok(()); 3]);
    });
    seen_by_ip(node)
}

#[test]
fn an_address_of_others_stays_whether_or_not_the_kernel_promotes_secondaries() {
    for (all, eth0) in [("0", "0"), ("1", "0"), ("0", "1")] {
        let (node, _outside) = node();
        node.set("ipv4/conf/all/promote_secondaries", all);
        node.set("ipv4/conf/eth0/promote_secondaries", eth0);
        assert_eq!(
            withdraw_around_a_foreign_address(&node),
            set(&["192.0.2.99/24", "198.51.100.1/24"]),
            "{all} {eth0}"
        );
        assert_eq!(node.get("ipv4/conf/eth0/promote_secondaries"), eth0, "put back");
        assert_eq!(node.get("ipv4/conf/all/promote_secondaries"), all, "untouched");
    }
}

#[test]
fn a_name_with_a_dot_in_it_is_one_name() {
    let (node, _outside) = node();
    node.ip("link set eth0 down");
    node.ip("link set eth0 name eth0.100");
    node.ip("link set eth0.100 up");
    node.ip("address add 192.0.2.1/24 dev eth0.100");
    node.ip("address add 192.0.2.99/24 dev eth0.100");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let present = kernel.addresses().unwrap();
        let ours = present.iter().find(|present| present.address.to_string() == "192.0.2.1").unwrap();
        assert_eq!(kernel.withdraw(&present, &[ours.into()]).unwrap(), [Ok(())]);
    });
    let left = node.ip("-oneline -4 address show dev eth0.100");
    assert!(left.contains("192.0.2.99/24") && !left.contains("192.0.2.1/24"), "{left}");
}

#[test]
fn without_care_the_kernel_takes_others_along() {
    let (node, _outside) = node();
    node.set("ipv4/conf/all/promote_secondaries", "0");
    node.set("ipv4/conf/eth0/promote_secondaries", "0");
    node.add_address("eth0", "192.0.2.1/24");
    node.add_address("eth0", "192.0.2.99/24");
    node.run(|| {
        let mut kernel = Kernel::open(soon()).unwrap();
        let link = eth0(&mut kernel);
        assert_eq!(kernel.remove(&[old_address("192.0.2.1/24", link)]).unwrap(), [Ok(())]);
    });
    assert_eq!(seen_by_ip(&node), set(&[]), "if this stays, withdraw is needless");
}
