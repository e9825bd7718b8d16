//! What is taken in from DRBD's tools and files.

use crate::drbd::cib::Cib;
use crate::drbd::dump_xml::Configuration;
use crate::drbd::generation::{Generation, Kinship};
use crate::drbd::kernel::Refusal;
use crate::drbd::{events, proc_drbd};

/// A word of DRBD's in a sentence.
fn is_shown(word: &str) {
    assert!(word.chars().count() <= 64 && !word.contains(char::is_control), "{word:?}");
}

/// What `drbdsetup events2` says.
pub fn drbd_events(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(found) = events::read(&text, "r0") else {
        return assert!(!text.lines().any(|line| line == "exists -"), "an output that is whole is not read");
    };
    let Some(resource) = found else { return };
    assert!(text.contains("name:r0"), "{resource:?} comes from nowhere");
    resource.foreign().into_iter().for_each(is_shown);
    assert!(!resource.summary().contains(char::is_control), "{resource:?}");
    assert!(!resource.all_up_to_date() || resource.all_consistent(), "{resource:?}");
}

/// What /proc/drbd says.
pub fn drbd_proc(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = proc_drbd::ProcDrbd::parse(&text);
    assert!(found.devices.len() <= text.lines().count(), "more devices come out than lines went in");
    for device in found.devices.values() {
        for word in [device.role.to_string(), device.peer_disk.to_string()] {
            is_shown(&word);
        }
        device.done.iter().chain(&device.finish).for_each(|word| is_shown(word));
    }
    if let Some(resource) = found.resource(&[0]) {
        assert!(resource.minors() == [0] && resource.peers.len() == 1, "{resource:?}");
        resource.foreign().into_iter().for_each(is_shown);
    }
}

/// The generations of two nodes' data, a line each.
pub fn drbd_generation(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found: Vec<_> = text.lines().filter_map(Generation::parse).collect();
    for one in &found {
        assert_eq!(Generation::parse(&one.to_text()).as_ref(), Some(one), "the plain spelling means something else");
        assert_eq!(one.against(one), Kinship::Same);
    }
    if let [one, other, ..] = found.as_slice() {
        let (here, there) = (one.against(other), other.against(one));
        let symmetric = |kinship| matches!(kinship, Kinship::Same | Kinship::Split | Kinship::Unrelated);
        assert!(!symmetric(here) || here == there, "{here:?} from one side, {there:?} from the other");
    }
}

/// What `cibadmin --query` says.
pub fn drbd_cib(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(cib) = Cib::parse(&text) else { return };
    for constraint in cib.constraints.values() {
        assert!(
            !constraint.spared.is_empty() || constraint.rejects("n1", &cib),
            "nobody is spared, and n1 is not rejected"
        );
    }
    assert_eq!(cib.means("n1", "#uname"), ("#uname".to_owned(), "n1".to_owned()));
}

/// What `drbdadm dump-xml` says of a resource, and of all.
pub fn drbd_dump_xml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(options) = Configuration::parse_common(&text) {
        assert!(options.keys().all(|name| name.contains('/')), "{options:?}");
    }
    let Ok(found) = Configuration::parse(&text, "n1") else { return };
    assert!(text.contains("<resource"), "{found:?} comes from nowhere");
    assert!(found.devices.len() <= text.matches("<device").count(), "more devices come out than went in: {found:?}");
}

/// Why DRBD refuses a change of state, as drbdsetup says it.
pub fn drbd_refusal(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let refusal = Refusal::parse(&text);
    assert!(!refusal.to_string().contains(char::is_control), "{refusal:?}");
    if refusal.code.is_some() {
        is_shown(&refusal.words);
    }
    refusal.more.iter().for_each(|more| is_shown(more));
}
