use std::fmt::Write;
use std::time::{Duration, Instant};

use super::*;

fn parse(text: impl AsRef<[u8]>) -> IpFile {
    IpFile::parse(text.as_ref(), &HashMap::new())
}

fn addresses(text: &str) -> Vec<String> {
    let file = parse(text);
    assert_eq!(file.refusals, [], "{text:?}");
    file.entries.iter().map(|entry| format!("{}/{}", entry.address, entry.prefix)).collect()
}

fn reason(text: &str) -> String {
    let file = parse(text);
    assert_eq!(file.refusals.len(), 1, "{text:?}: {file:?}");
    file.refusals[0].reason.clone()
}

#[test]
fn the_vendors_form_and_the_extensions_are_read() {
    let text = "192.0.2.10/24\n\n# a comment\n  192.0.2.11/24   # another\n2001:DB8:0:0::0a/64 eth1\r\n192.0.2.12/32";
    assert_eq!(addresses(text), ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::a/64", "192.0.2.12/32"]);
    let file = parse(text);
    assert_eq!(file.entries[2].interface.as_deref(), Some("eth1"));
    assert_eq!(file.entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [1, 4, 5, 6]);
}

#[test]
fn any_spelling_of_an_ipv6_address_is_the_same_address() {
    for spelling in ["2001:db8::1:0:0:1", "2001:DB8:0:0:1::1", "2001:0db8:0000:0000:0001:0000:0000:0001"] {
        assert_eq!(addresses(&format!("{spelling}/64")), ["2001:db8::1:0:0:1/64"], "{spelling}");
    }
    assert_eq!(addresses("64:ff9b::192.0.2.33/96"), ["64:ff9b::c000:221/96"]);
}

#[test]
fn a_byte_order_mark_and_a_missing_last_newline_are_no_mistakes() {
    assert_eq!(parse(b"\xef\xbb\xbf192.0.2.10/24\r\n192.0.2.11/24").entries.len(), 2);
}

#[test]
fn each_wrong_line_is_refused_for_its_own_reason() {
    for (line, expected) in [
        ("192.0.2.10", "192.0.2.10/24 is the form"),
        ("2001:db8::1", "2001:db8::1/64 is the form"),
        ("mail.example.com", "an address with its prefix length is expected"),
        ("192.0.2.10/", "\"\" is no prefix length; a whole number from 1 to 32"),
        ("192.0.2.10/33", "\"33\" is no prefix length"),
        ("2001:db8::1/129", "\"129\" is no prefix length; a whole number from 1 to 128"),
        ("192.0.2.10/+24", "\"+24\" is no prefix length"),
        ("192.0.2.10/999", "\"999\" is no prefix length"),
        ("192.0.2.10/255.255.255.0", "\"255.255.255.0\" is no prefix length"),
        ("010.0.0.1/8", "\"010.0.0.1\" is no IPv4 or IPv6 address"),
        ("192.0.2.10/0", "whole Internet"),
        ("192.0.2.0/24", "the network's own address"),
        ("192.0.2.255/24", "broadcast"),
        ("2001:db8::/64", "router anycast"),
        ("127.0.0.1/8", "loopback"),
        ("::1/128", "loopback"),
        ("224.0.0.1/24", "multicast"),
        ("ff02::1/64", "multicast"),
        ("0.0.0.0/8", "network 0"),
        ("::/128", "network 0"),
        ("240.1.1.1/24", "reserved"),
        ("255.255.255.255/32", "broadcast"),
        ("::ffff:192.0.2.1/120", "write it as IPv4"),
        ("fe80::1/64", "needs its interface"),
        ("169.254.1.1/16", "needs its interface"),
        ("192.0.2.10/24 eth0 up", "\"up\" follows the interface"),
        ("192.0.2.10/24 a/b", "cannot be the name of an interface"),
        ("192.0.2.10/24 interface-too-long", "cannot be the name of an interface"),
    ] {
        assert!(reason(line).contains(expected), "{line}: {}", reason(line));
    }
}

#[test]
fn prefixes_that_leave_no_room_have_no_network_or_broadcast_address() {
    let text = "192.0.2.0/31\n192.0.2.1/31\n198.51.100.0/32\n2001:db8::/127\n2001:db8:1::/128\n2001:db8:2::ffff/112";
    assert_eq!(addresses(text).len(), 6);
}

#[test]
fn a_link_local_address_with_its_interface_is_fine() {
    assert_eq!(addresses("fe80::1/64 eth0"), ["fe80::1/64"]);
}

#[test]
fn an_address_stands_once_and_with_one_prefix() {
    assert!(reason("192.0.2.10/24\n192.0.2.10/24").contains("in line 1 already"));
    assert!(reason("2001:db8::1/64\n\n2001:DB8::1/48").contains("line 1 has the same address with prefix length 64"));
}

#[test]
fn an_address_of_the_node_itself_is_refused() {
    let reserved = HashMap::from([("192.0.2.1".parse().unwrap(), "Corosync is bound to it".to_owned())]);
    let file = IpFile::parse(b"192.0.2.1/24\n192.0.2.2/24", &reserved);
    assert_eq!(file.entries.len(), 1);
    assert!(file.fault().unwrap().contains("Corosync is bound to it"));
}

#[test]
fn all_wrong_lines_are_named_with_number_and_text() {
    let fault = parse("x\n192.0.2.10/24\ny\n").fault().unwrap();
    assert!(fault.starts_with("line 1: \"x\": ") && fault.contains("; line 3: \"y\": "), "{fault}");
    let fault = parse("x\n".repeat(12)).fault().unwrap();
    assert!(fault.ends_with("and 7 more wrong lines"), "{fault}");
}

#[test]
fn a_file_without_an_address_is_a_fault_of_its_own() {
    for text in ["", "\n\n", "# nothing\r\n", "   "] {
        assert_eq!(parse(text).fault().as_deref(), Some("it lists no address"), "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_in_their_line_only() {
    let file = parse(b"192.0.2.10/24\n\xff\xfe\x00\n192.0.2.11/24\n");
    assert_eq!((file.entries.len(), file.refusals.len()), (2, 1));
    let long = parse("x".repeat(1_000_000));
    assert!(long.refusals[0].to_string().len() < 300);
}

#[test]
fn lists_that_mean_the_same_have_the_same_digest() {
    let one = parse("192.0.2.10/24\n2001:db8::1/64 eth0\n").digest();
    assert_eq!(parse("# sorted otherwise\n2001:DB8:0::1/64 eth0\r\n192.0.2.10/24").digest(), one);
    assert!(one.starts_with("2:"), "{one}");
    for other in ["192.0.2.10/24\n2001:db8::1/64\n", "192.0.2.10/25\n2001:db8::1/64 eth0\n", "192.0.2.10/24\n"] {
        assert_ne!(parse(other).digest(), one, "{other}");
    }
}

#[test]
fn the_digest_is_the_published_fnv_1a() {
    let mut hash = Fnv::new();
    hash.add(b"foobar");
    assert_eq!(hash.0, 0x8594_4171_f739_67e8);
}

#[test]
fn a_hundred_thousand_lines_take_well_under_a_second() {
    let mut text = String::new();
    for number in 0..100_000_u32 {
        writeln!(text, "10.{}.{}.{}/8", 1 + number / 60_000, number / 250 % 240, number % 250 + 1).unwrap();
    }
    let begun = Instant::now();
    let file = parse(&text);
    assert_eq!((file.entries.len(), file.refusals.len()), (100_000, 0));
    // Five times what an unoptimised build needs on a busy machine; a quadratic search for duplicates needs minutes.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
