//! Ethernet frames that ask who has an address and that say who has it: ARP and IPv6 neighbour discovery. Pure functions
//! to and from bytes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hardware(pub(crate) [u8; 6]);

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

/// Somebody says to have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// The address.
    pub(crate) address: IpAddr,
    /// Who has it.
    pub(crate) hardware: Hardware,
}

/// The two forms of gratuitous ARP. Either will do by RFC 5944 section 4.6; there are hosts and switches that heed only
/// one of them, which is why both are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An ARP request for one's own address, the ARP announcement of RFC 5227 section 2.3.
    Request,
    /// An ARP reply that nobody asked for.
    Reply,
}

/// EtherTypes.
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet, IPv4, and the lengths of their addresses (RFC 826).
const ARP_OF_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
/// Next header (RFC 4443) and types of messages and options (RFC 4861).
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Discovery packets that a router may have forwarded are not believed (RFC 4861 sections 7.1.1, 7.1.2).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where the message begins: behind the Ethernet header and that of IPv6 (RFC 8200).
const ICMP_START: usize = 14 + 40;

/// The question whether anybody has `address`, from one who does not have it: RFC 5227 section 2.1.1 for IPv4, RFC 4862
/// section 5.4.2 for IPv6. Who has it answers, and nobody learns anything wrong from the question.
pub(crate) fn probe(address: IpAddr, own: Hardware) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(own, ARP_REQUEST, (own.0, Ipv4Addr::UNSPECIFIED), (Hardware::UNKNOWN.0, address)),
        IpAddr::V6(address) => neighbour(
            own,
            (Ipv6Addr::UNSPECIFIED, solicited_node(address)),
            [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0],
            address,
            None,
        ),
    }
}

/// The news that `address` is at `own` from now on.
///
/// IPv4: gratuitous ARP; in the reply form the target hardware address is the sender's (RFC 5944 section 4.6). IPv6: an
/// unsolicited neighbour advertisement with the override flag (RFC 4861 section 7.2.6). Its router flag stays 0: a
/// neighbour that uses this address as its router learns better from the kernel's own advertisements.
pub(crate) fn announcement(address: IpAddr, own: Hardware, form: Form) -> Vec<u8> {
    match (address, form) {
        (IpAddr::V4(address), Form::Request) => arp(own, ARP_REQUEST, (own.0, address), (Hardware::UNKNOWN.0, address)),
        (IpAddr::V4(address), Form::Reply) => arp(own, ARP_REPLY, (own.0, address), (own.0, address)),
        (IpAddr::V6(address), _) => neighbour(
            own,
            (address, ALL_NODES),
            [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0],
            address,
            Some((TARGET_LINK_LAYER_ADDRESS, own)),
        ),
    }
}

/// What a received frame says about who has an address; None if it says nothing.
///
/// A mere question says nothing, though RFC 5227 section 2.1.1 takes another host's probe for a conflict: switches that
/// track devices probe the addresses of others all the time, with the sender address 0.0.0.0.
pub(crate) fn claim(frame: &[u8]) -> Option<Claim> {
    match frame.get(12..14)?.try_into().ok()? {
        ARP => arp_claim(frame.get(14..42)?),
        IPV6 => neighbour_claim(frame),
        _ => None,
    }
}

impl Hardware {
    const UNKNOWN: Self = Self([0; 6]);
}

fn ethernet(to: [u8; 6], own: Hardware, kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &own.0, &kind].concat()
}

fn arp(own: Hardware, operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, own, ARP);
    frame.extend(ARP_OF_IPV4);
    frame.extend([0, operation]);
    for (hardware, address) in [sender, target] {
        frame.extend(hardware);
        frame.extend(address.octets());
    }
    frame
}

fn neighbour(
    own: Hardware,
    (from, to): (Ipv6Addr, Ipv6Addr),
    start: [u8; 8],
    target: Ipv6Addr,
    option: Option<(u8, Hardware)>,
) -> Vec<u8> {
    let mut message = start.to_vec();
    message.extend(target.octets());
    let mut length = 24;
    if let Some((kind, hardware)) = option {
        // An option's length counts units of 8 bytes (RFC 4861 section 4.6).
        message.extend([kind, 1]);
        message.extend(hardware.0);
        length += 8;
    }
    let checksum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    // RFC 2464 section 7: the last four bytes of the group address behind 33-33.
    let [.., a, b, c, d] = to.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], own, IPV6);
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The group in which who has `target` listens (RFC 4291 section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The ICMPv6 checksum over the pseudo-header and the message (RFC 4443 section 2.3, RFC 8200 section 8.1). Over a
/// message that contains its own right checksum it is 0.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pair = |bytes: &[u8]| u64::from(bytes[0]) << 8 | u64::from(bytes.get(1).copied().unwrap_or(0));
    let sum = |bytes: &[u8]| bytes.chunks(2).map(pair).sum::<u64>();
    let mut total = sum(&from.octets()) + sum(&to.octets()) + message.len() as u64 + u64::from(ICMPV6) + sum(message);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or(0)
}

/// Any ARP packet tells of its sender, request or reply (RFC 826, RFC 5227 section 2.1.1).
fn arp_claim(packet: &[u8]) -> Option<Claim> {
    let (start, rest) = packet.split_first_chunk::<8>()?;
    let (hardware, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    let meant = start[..6] == ARP_OF_IPV4 && matches!(start[6..], [0, ARP_REQUEST | ARP_REPLY]);
    (meant && !address.is_unspecified()).then_some(Claim { address: address.into(), hardware: Hardware(*hardware) })
}

/// An advertisement tells of its target, a solicitation of its sender (RFC 4861 sections 4.3, 4.4).
fn neighbour_claim(frame: &[u8]) -> Option<Claim> {
    let packet: &[u8; 40] = frame.get(14..)?.first_chunk()?;
    let [version, _, _, _, high, low, next_header, hop_limit, addresses @ ..] = packet;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let message = frame.get(ICMP_START..ICMP_START + length)?;
    let (from, to) = (ipv6(&addresses[..16])?, ipv6(&addresses[16..])?);
    if (version >> 4, *next_header, *hop_limit) != (6, ICMPV6, HOP_LIMIT) || checksum(from, to, message) != 0 {
        return None;
    }
    let (fixed, options) = message.split_first_chunk::<24>()?;
    let (address, option) = match fixed[..2] {
        [NEIGHBOUR_ADVERTISEMENT, 0] => (ipv6(&fixed[8..])?, TARGET_LINK_LAYER_ADDRESS),
        [NEIGHBOUR_SOLICITATION, 0] => (from, SOURCE_LINK_LAYER_ADDRESS),
        _ => return None,
    };
    if address.is_unspecified() || address.is_multicast() {
        return None;
    }
    let sender = Hardware(*frame.get(6..)?.first_chunk()?);
    let hardware = link_layer_address(options, option).unwrap_or(sender);
    Some(Claim { address: address.into(), hardware })
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

/// The Ethernet address in the first option of this kind.
fn link_layer_address(mut options: &[u8], wanted: u8) -> Option<Hardware> {
    while let [kind, units, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        if kind == wanted {
            return option.get(2..8)?.first_chunk().copied().map(Hardware);
        }
        // A length of 0 would go round for ever (RFC 4861 section 4.6: to be discarded).
        if rest.len() == options.len() {
            return None;
        }
        options = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Hardware = Hardware([0x02, 0, 0, 0, 0, 0x0a]);

    /// Bytes written as in a dump, in any grouping.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn v4() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "2001:db8::12:3456".parse().unwrap()
    }

    #[test]
    fn arp_frames_have_the_layout_of_rfc_826() {
        // To everybody, from us, ARP; Ethernet and IPv4, lengths 6 and 4; operation; sender; target.
        let probe_bytes = hex("ffffffffffff 02000000000a 0806  0001 0800 06 04 0001
                               02000000000a 00000000  000000000000 c0000201");
        assert_eq!(probe(v4(), OWN), probe_bytes);
        let request = hex("ffffffffffff 02000000000a 0806  0001 0800 06 04 0001
                           02000000000a c0000201  000000000000 c0000201");
        assert_eq!(announcement(v4(), OWN, Form::Request), request);
        let reply = hex("ffffffffffff 02000000000a 0806  0001 0800 06 04 0002
                         02000000000a c0000201  02000000000a c0000201");
        assert_eq!(announcement(v4(), OWN, Form::Reply), reply);
    }

    #[test]
    fn neighbour_frames_have_the_layout_of_rfc_4861() {
        let solicitation = hex("3333ff123456 02000000000a 86dd  60000000 0018 3a ff
                                00000000000000000000000000000000 ff0200000000000000000001ff123456
                                87 00 e41e 00000000 20010db8000000000000000000123456");
        assert_eq!(probe(v6(), OWN), solicitation);
        let advertisement = hex("333300000001 02000000000a 86dd  60000000 0020 3a ff
                                 20010db8000000000000000000123456 ff020000000000000000000000000001
                                 88 00 9053 20000000 20010db8000000000000000000123456  02 01 02000000000a");
        assert_eq!(announcement(v6(), OWN, Form::Request), advertisement);
        assert_eq!(announcement(v6(), OWN, Form::Reply), advertisement);
    }

    #[test]
    fn a_checksum_over_itself_is_zero_also_for_an_odd_length() {
        let (from, to) = (Ipv6Addr::LOCALHOST, ALL_NODES);
        for length in [4, 5, 24, 33] {
            let mut message: Vec<u8> = (1..=length).collect();
            message[2..4].fill(0);
            let sum = checksum(from, to, &message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(checksum(from, to, &message), 0, "{length} bytes");
            message[0] ^= 1;
            assert_ne!(checksum(from, to, &message), 0, "{length} bytes, one bit wrong");
        }
    }

    #[test]
    fn what_says_who_has_an_address_is_a_claim_and_a_question_is_none() {
        for form in [Form::Request, Form::Reply] {
            for address in [v4(), v6()] {
                let found = claim(&announcement(address, OWN, form));
                assert_eq!(found, Some(Claim { address, hardware: OWN }), "{form:?}");
            }
        }
        assert_eq!(claim(&probe(v4(), OWN)), None);
        assert_eq!(claim(&probe(v6(), OWN)), None);
    }

    #[test]
    fn the_padding_of_short_frames_does_not_matter() {
        for address in [v4(), v6()] {
            let mut frame = announcement(address, OWN, Form::Request);
            frame.resize(frame.len() + 18, 0);
            assert_eq!(claim(&frame), Some(Claim { address, hardware: OWN }));
        }
    }

    #[test]
    fn an_answer_to_a_solicitation_names_the_hardware_that_its_option_names() {
        let other = Hardware([0x02, 0, 0, 0, 0, 0x0b]);
        let IpAddr::V6(target) = v6() else { unreachable!() };
        let start = [NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0];
        let with_option = neighbour(OWN, (target, ALL_NODES), start, target, Some((TARGET_LINK_LAYER_ADDRESS, other)));
        assert_eq!(claim(&with_option), Some(Claim { address: v6(), hardware: other }));
        let without_option = neighbour(OWN, (target, ALL_NODES), start, target, None);
        assert_eq!(claim(&without_option), Some(Claim { address: v6(), hardware: OWN }));
        let asking = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        let of_its_sender =
            neighbour(OWN, (target, ALL_NODES), asking, ALL_NODES, Some((SOURCE_LINK_LAYER_ADDRESS, other)));
        assert_eq!(claim(&of_its_sender), Some(Claim { address: v6(), hardware: other }));
    }

    #[test]
    fn a_frame_with_one_wrong_field_is_no_claim() {
        let good = announcement(v6(), OWN, Form::Request);
        // Kind of frame, version, next header, hop limit, type, code, checksum, a byte of the target.
        for position in [12, 14, 20, 21, 54, 55, 56, 70] {
            let mut frame = good.clone();
            frame[position] ^= 0x10;
            assert_eq!(claim(&frame), None, "byte {position}");
        }
        let good = announcement(v4(), OWN, Form::Reply);
        // Kind of frame, hardware type, protocol, both lengths, operation.
        for position in [12, 15, 16, 18, 19, 21] {
            let mut frame = good.clone();
            frame[position] ^= 0x10;
            assert_eq!(claim(&frame), None, "byte {position}");
        }
    }

    #[test]
    fn an_option_without_length_or_beyond_the_end_is_not_read() {
        assert_eq!(link_layer_address(&[2, 0, 1, 2, 3, 4, 5, 6], 1), None);
        assert_eq!(link_layer_address(&[2, 2, 1, 2, 3, 4, 5, 6], 2), None);
        assert_eq!(link_layer_address(&[2], 2), None);
        let second = [14, 1, 0, 0, 0, 0, 0, 0, 2, 1, 1, 2, 3, 4, 5, 6];
        assert_eq!(link_layer_address(&second, 2), Some(Hardware([1, 2, 3, 4, 5, 6])));
    }

    #[test]
    fn no_bytes_at_all_panic() {
        for good in [announcement(v4(), OWN, Form::Reply), announcement(v6(), OWN, Form::Request)] {
            for length in 0..good.len() {
                assert_eq!(claim(&good[..length]), None, "cut to {length} bytes");
            }
            let mut seed = 1u32;
            for _ in 0..20_000 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut frame = good.clone();
                let [value, position, ..] = seed.to_be_bytes();
                frame[usize::from(position) % good.len()] = value;
                let found = claim(&frame);
                assert!(found.is_none_or(|claim| !claim.address.is_unspecified()));
            }
        }
    }
}
