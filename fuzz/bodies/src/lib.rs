//! What is fuzzed: functions of any bytes, each of which panics when something does not hold that must.
//!
//! An agent is a program, not a library; its modules are compiled here once more. The tests inside them are not:
//! hence nothing at all under `cfg(test)`.
#![cfg(not(test))]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use ocf::{Environment, Notification, Values};

#[allow(dead_code, unused_imports, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/primary-ips/src"]
mod primary_ips {
    pub(crate) mod frame;
    pub(crate) mod ip_file;
    pub(crate) mod kernel;
    pub(crate) mod parameters;
}

use primary_ips::frame::{Form, announcement, claim};
use primary_ips::ip_file::IpFile;
use primary_ips::kernel::datagram::{Content, attributes, messages};
use primary_ips::kernel::{Link, Present};
use primary_ips::parameters::{ABOUT, Settings};

/// A body.
pub type Body = fn(&[u8]);

/// Every body with the name of its target and of its directory of seeds.
pub const BODIES: &[(&str, Body)] =
    &[("ip_file", ip_file), ("netlink", netlink), ("frame", frame), ("notify", notify), ("parameters", parameters)];

/// The file of addresses.
pub fn ip_file(bytes: &[u8]) {
    let reserved = HashMap::from([(IpAddr::from([192, 0, 2, 1]), "it is reserved".to_owned())]);
    let file = IpFile::parse(bytes, &reserved);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(file.entries.len() + file.refusals.len() <= lines, "more lines come out than went in");
    assert_eq!(file.fault().is_none(), file.refusals.is_empty() && !file.entries.is_empty());
    assert!(file.fault().is_none_or(|fault| fault.len() < 8192 && !fault.contains('\n')), "{:?}", file.fault());

    let mut text = String::new();
    for entry in &file.entries {
        assert!(!reserved.contains_key(&entry.address) && (1..=lines).contains(&entry.line), "{entry:?}");
        let interface = entry.interface.as_deref().unwrap_or_default();
        writeln!(text, "{}/{} {interface}", entry.address, entry.prefix).expect("a String takes everything");
    }
    let again = IpFile::parse(text.as_bytes(), &reserved);
    assert!(again.refusals.is_empty(), "what was accepted is refused in plain spelling: {:?}", again.fault());
    assert_eq!(again.digest(), file.digest(), "the plain spelling means something else");
}

/// A datagram of the kernel: its messages, and each as the address or link that it may be.
pub fn netlink(bytes: &[u8]) {
    let found: Vec<_> = messages(bytes).collect();
    assert!(found.len() <= bytes.len() / 16 + 1, "more messages than headers fit in");
    assert!(found.iter().rev().skip(1).all(Result::is_ok), "reading went on behind a message that is not whole");
    for message in found.into_iter().flatten() {
        match message.content {
            Content::Entry { payload, .. } => entry(payload),
            Content::End(Err(refusal)) => assert!(!refusal.to_string().is_empty()),
            Content::End(Ok(())) | Content::Overrun | Content::Nothing => {}
        }
    }
}

fn entry(payload: &[u8]) {
    if let Ok(Some(present)) = Present::parse(payload) {
        assert_ne!(present.peer, Some(present.address), "an address that is its own peer");
        assert!(!(present.secondary && present.temporary), "{present:?}");
    }
    if let Ok(link) = Link::parse(payload) {
        assert!(link.speaks_arp().is_none() || link.up && link.carrier, "{link:?}");
    }
    assert!(attributes(payload).count() <= payload.len() / 4 + 1, "more attributes than headers fit in");
}

/// A frame from the network: ARP or neighbour discovery.
pub fn frame(bytes: &[u8]) {
    // With a wrong checksum nothing behind it is looked at, and hardly any mutation has the right one.
    for frame in [bytes.to_vec(), with_checksum(bytes.to_vec())] {
        let Some(found) = claim(&frame) else { continue };
        assert!(!found.address.is_unspecified(), "nobody has {}", found.address);
        for form in [Form::Request, Form::Reply] {
            let said = announcement(found.address, found.hardware, form);
            assert_eq!(claim(&said), Some(found), "an announcement of the same says something else");
        }
    }
}

/// The frame with the ICMPv6 checksum it should have (RFC 4443 section 2.3), if it has room for one.
fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    // Behind the headers of Ethernet and IPv6; the checksum is the message's second pair of bytes.
    const MESSAGE: usize = 14 + 40;
    let Some(length) = frame.get(18..20).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]]))) else {
        return frame;
    };
    if length < 4 || frame.len() < MESSAGE + length {
        return frame;
    }
    frame[MESSAGE + 2..MESSAGE + 4].fill(0);
    let pairs = frame[22..MESSAGE + length].chunks(2);
    let words = pairs.map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte)));
    let mut sum = words.sum::<u64>() + length as u64 + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap_or(0);
    frame[MESSAGE + 2..MESSAGE + 4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// `NAME=VALUE` lines.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (String, String)> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let pairs: Vec<_> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    pairs.into_iter()
}

/// The environment of a notify action.
pub fn notify(bytes: &[u8]) {
    let os = |(name, value): (String, String)| (OsString::from(name), OsString::from(value));
    let environment = Environment::from_variables(pairs(bytes).map(os));
    assert!(environment.instance().starts_with(environment.resource()) && !environment.instance().is_empty());
    assert!(environment.promotable() || environment.by_pacemaker());
    let Some(found) = Notification::read(&environment) else { return };
    for list in [&found.promoted, &found.unpromoted, &found.start, &found.stop, &found.promote, &found.demote] {
        for instance in list {
            for word in [&instance.resource, &instance.node] {
                assert!(!word.is_empty() && !word.contains(' '), "{instance:?} is not two words");
            }
        }
    }
}

/// Parameters as Pacemaker sends them, checked against the agent's table.
pub fn parameters(bytes: &[u8]) {
    let given: BTreeMap<_, _> = pairs(bytes).collect();
    let forgiven = Values::forgive(ABOUT.parameters, &given);
    match Values::check(ABOUT.parameters, &given) {
        Ok(_) => assert_eq!(forgiven.wrong(), None, "start takes what stop warns of"),
        Err(failure) => assert_eq!(Some(failure.reason()), forgiven.wrong().as_deref()),
    }
    for parameter in ABOUT.parameters {
        assert!(!forgiven.is_wrong(parameter.name) || forgiven.is_set(parameter.name), "{} is not set", parameter.name);
    }
    let settings = Settings::read(&forgiven);
    assert!(settings.ip_file.is_absolute() && settings.announce_count <= 100, "{settings:?}");
    assert!((10..=1_000_000).contains(&settings.announce_rate), "{settings:?}");
    assert!(
        (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&settings.announce_interval),
        "{settings:?}"
    );
}
