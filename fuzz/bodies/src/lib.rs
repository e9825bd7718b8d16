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

use ocf::{Environment, Notification, Parameter, Values};

#[allow(dead_code, unused_imports, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/primary-ips/src"]
mod primary_ips {
    pub(crate) mod frame;
    pub(crate) mod ip_file;
    pub(crate) mod kernel;
    pub(crate) mod parameters;
}

#[allow(dead_code, unused_imports, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/services/src"]
mod services {
    pub(crate) mod escalation;
    pub(crate) mod guard;
    pub(crate) mod parameters;
    pub(crate) mod pattern;
    pub(crate) mod processes;
    pub(crate) mod record;
    pub(crate) mod scan;
    pub(crate) mod supervise;
    pub(crate) mod svscan;
    pub(crate) mod texts;
}

#[allow(dead_code, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/drbd/src"]
mod drbd {
    #[path = "fence/cib.rs"]
    pub(crate) mod cib;
    pub(crate) mod dump_xml;
    pub(crate) mod events;
    pub(crate) mod generation;
    pub(crate) mod kernel;
    pub(crate) mod model;
    pub(crate) mod parameters;
    pub(crate) mod proc_drbd;
    pub(crate) mod score;
    pub(crate) mod texts;
}

#[allow(dead_code, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/postgresql/src"]
mod postgresql {
    pub(crate) mod position;
    pub(crate) mod wal;
}

#[allow(dead_code, reason = "only what takes in bytes from outside is used here")]
#[path = "../../../agents/hvmail-ha/src"]
mod hvmail_ha {
    pub(crate) mod crm_mon;
    pub(crate) mod xml;

    pub(crate) mod ips {
        pub(crate) use crate::primary_ips::ip_file;
        pub(crate) mod listed;
        pub(crate) mod virtual_mtas;
    }
}

mod of_drbd;
pub use of_drbd::{drbd_cib, drbd_dump_xml, drbd_events, drbd_generation, drbd_proc, drbd_refusal};

// Their modules name each other from the crate's root.
use drbd::{events, model, proc_drbd};
use hvmail_ha::{crm_mon, xml};
use postgresql::{position, wal};
use services::{escalation, guard, parameters, pattern, processes, record, scan, supervise, svscan, texts};

use position::{Position, Standing};
use primary_ips::frame::{Form, announcement, claim};
use primary_ips::ip_file::IpFile;
use primary_ips::kernel::datagram::{Content, attributes, messages};
use primary_ips::kernel::{Link, Present};
use record::Record;
use supervise::{Status, Want};

/// A body.
pub type Body = fn(&[u8]);

/// Every body with the name of its target and of its directory of seeds.
pub const BODIES: &[(&str, Body)] = &[
    ("ip_file", ip_file),
    ("netlink", netlink),
    ("frame", frame),
    ("supervise_status", supervise_status),
    ("services_record", services_record),
    ("drbd_events", drbd_events),
    ("drbd_proc", drbd_proc),
    ("drbd_generation", drbd_generation),
    ("drbd_cib", drbd_cib),
    ("drbd_dump_xml", drbd_dump_xml),
    ("drbd_refusal", drbd_refusal),
    ("postgresql_position", postgresql_position),
    ("notify", notify),
    ("crm_mon_xml", crm_mon_xml),
    ("virtual_mtas", virtual_mtas),
    ("parameters", parameters),
];

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

/// Where another node says that it is in the log.
pub fn postgresql_position(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(found) = Position::from_attribute(&text) else { return };
    assert_eq!(found.against(&found), Standing::Equal, "{found:?}");
    // Of a long history only the end is told again.
    if let Some(again) = Position::from_attribute(&found.to_attribute()) {
        assert_eq!((again.timeline, again.lsn), (found.timeline, found.lsn));
        assert_eq!(
            Position::from_attribute(&again.to_attribute()),
            Some(again),
            "the plain spelling means something else"
        );
    } else {
        panic!("{:?} is told as what nobody understands", found.to_attribute());
    }
}

/// What `crm_mon --output-as=xml` prints.
pub fn crm_mon_xml(bytes: &[u8]) {
    let Ok(state) = crm_mon::Monitored::parse(&String::from_utf8_lossy(bytes)) else { return };
    for instance in &state.instances {
        assert!(!instance.resource.contains(':'), "an instance's number is no part of {:?}", instance.resource);
        assert!(!["Master", "Slave"].contains(&instance.role.as_str()));
    }
    assert!(state.counts.iter().all(|count| count.count != "0"));
}

/// GreenArrow's configuration, and the file of addresses as hvmail_ha compares it.
pub fn virtual_mtas(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for source in hvmail_ha::ips::virtual_mtas::sources(bytes) {
        assert!((1..=lines).contains(&source.line), "there is no line {}", source.line);
        let word = source.address.map_or_else(|word| word, |address| address.to_string());
        assert!(
            [&source.name, &word].iter().all(|word| word.chars().count() <= 60 && !word.contains(char::is_control))
        );
    }
    let list = hvmail_ha::ips::listed::List::of(bytes);
    assert!(hvmail_ha::ips::listed::changes(&list, &list).is_empty(), "a list differs from itself");
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

/// What a supervise of daemontools has written of its service.
pub fn supervise_status(bytes: &[u8]) {
    let status = match Status::parse(bytes) {
        Ok(status) => status,
        Err(wrong) => return assert!(!wrong.is_empty() && !wrong.contains(char::is_control), "{wrong:?}"),
    };
    assert_eq!(bytes.len(), 18);
    assert!(status.pid.is_none_or(|pid| pid > 0) && status.since.nanoseconds < 1_000_000_000, "{status:?}");
    assert!(status.since.elapsed() < Duration::from_secs(1 << 40), "{status:?}");
    let mut again = bytes.to_vec();
    again[12..16].copy_from_slice(&status.pid.unwrap_or(0).to_le_bytes());
    (again[16], again[17]) = match (status.paused, status.want) {
        (paused, Want::Up) => (paused.into(), b'u'),
        (paused, Want::Down) => (paused.into(), b'd'),
        (paused, Want::Once) => (paused.into(), 0),
    };
    assert_eq!(Status::parse(&again), Ok(status), "the same in plain spelling means something else");
}

/// The state file of services, which an earlier version may have written, or a hand.
pub fn services_record(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let record = match Record::from_text(&text) {
        Ok(record) => record,
        Err(error) => return assert!(!format!("{error:#}").contains(char::is_control), "{error:#}"),
    };
    for (name, seen) in &record.units {
        assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?}");
        assert!(seen.life.is_none_or(|life| life.pid > 0 && life.since.elapsed() < Duration::MAX), "{seen:?}");
    }
    let again = Record::from_text(&record.to_text()).expect("what was written cannot be read");
    assert_eq!(again, record, "what was written is read as something else");
}

/// Parameters as Pacemaker sends them, checked against the table of each agent.
pub fn parameters(bytes: &[u8]) {
    let given: BTreeMap<_, _> = pairs(bytes).collect();
    let settings = primary_ips::parameters::Settings::read(&checked(primary_ips::parameters::ABOUT.parameters, &given));
    assert!(settings.ip_file.is_absolute() && settings.announce_count <= 100, "{settings:?}");
    assert!((10..=1_000_000).contains(&settings.announce_rate), "{settings:?}");
    assert!(
        (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&settings.announce_interval),
        "{settings:?}"
    );

    let settings = parameters::Settings::read(&checked(parameters::ABOUT.parameters, &given));
    assert!(settings.service_dir.is_absolute() && settings.mta_control.is_absolute(), "{settings:?}");
    assert!(settings.check_ports.iter().all(|port| port.port() != 0), "{settings:?}");
    assert!(!settings.pattern.matches("a/b") || settings.pattern.matches("a*b"), "{settings:?}");
    let steps: Vec<_> = settings.stop_escalation.steps().map(|(_, time)| time).collect();
    assert!((1..=3).contains(&steps.len()) && steps.iter().all(|time| time.as_millis() >= 100), "{settings:?}");
    let budget = Duration::from_secs(20);
    let fitted: Duration = settings.stop_escalation.within(budget).steps().map(|(_, time)| time).sum();
    assert!(fitted <= budget + Duration::from_micros(1), "{fitted:?} of {budget:?} are used: {settings:?}");

    let settings = drbd::parameters::Settings::read(&checked(drbd::parameters::ABOUT.parameters, &given));
    let name = &settings.name;
    assert!(!name.starts_with('-') && name != "all" && !name.contains(['/', ' ', '\n']), "{settings:?}");
    let ladder = settings.ladder;
    let steps = [0, ladder.only_consistent, ladder.only_remote, ladder.local_good, ladder.best];
    assert!(settings.drbdconf.is_absolute() && steps.is_sorted(), "{settings:?}");
}

/// The values that an action which forgives wrong ones goes on with.
fn checked(table: &[Parameter], given: &BTreeMap<String, String>) -> Values {
    let forgiven = Values::forgive(table, given);
    match Values::check(table, given) {
        Ok(_) => assert_eq!(forgiven.wrong(), None, "start takes what stop warns of"),
        Err(failure) => assert_eq!(Some(failure.reason()), forgiven.wrong().as_deref()),
    }
    for parameter in table {
        let set = forgiven.is_set(parameter.name) || parameter.required;
        assert!(!forgiven.is_wrong(parameter.name) || set, "{} is not set", parameter.name);
    }
    forgiven
}
