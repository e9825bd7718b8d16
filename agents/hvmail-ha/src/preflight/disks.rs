//! DRBD in a picture: which resources could not be promoted on a node, and why.

use super::{is_promoted, score};
use crate::cib::{Fence, Resource};
use crate::picture::{Picture, Role};
use crate::takeover::Disk;

/// The scores of an agent of DRBD from good data here on (parameter adjust_master_score).
const UP_TO_DATE: i64 = 1000;

/// A resource that is not to be promoted on a node.
struct Old<'a> {
    resource: &'a Resource,
    /// The node's own data is not good, as far as its agent has told.
    unsound: bool,
    /// DRBD itself keeps the role from the node.
    fence: Option<&'a Fence>,
}

pub(super) fn disk(picture: &Picture, target: &str) -> Disk {
    match (resources(picture).next(), old(picture, target).is_empty()) {
        (None, _) => Disk::None,
        (Some(_), true) => Disk::UpToDate,
        (Some(_), false) => Disk::NotUpToDate,
    }
}

fn resources(picture: &Picture) -> impl Iterator<Item = &Resource> {
    picture.configuration.roles().filter(|one| one.agent.ends_with(":drbd"))
}

/// A Secondary whose connection is cut does not know what it lacks, and calls its data UpToDate: the constraint of the Primary's
/// handler does know. It is placed before the Primary writes alone, and counts until the data is good again.
fn old<'a>(picture: &'a Picture, target: &str) -> Vec<Old<'a>> {
    let judged = resources(picture).filter(|one| !is_promoted(picture, &one.id, target)).map(|resource| {
        let clone = resource.promotable.as_ref();
        let rejects = |fence: &&Fence| Some(&fence.resource) == clone && fence.rejects(target);
        Old {
            resource,
            unsound: score(picture, &resource.id, target).is_none_or(|score| score < UP_TO_DATE),
            fence: picture.configuration.fences.iter().find(rejects),
        }
    });
    judged.filter(|one| one.unsound || one.fence.is_some()).collect()
}

/// What is so, and what to do.
pub(super) fn tell(picture: &Picture, target: &str) -> (String, String) {
    let all = old(picture, target);
    let facts: Vec<_> = all.iter().map(|one| fact(picture, target, one)).collect();
    let names: Vec<_> = all.iter().map(|one| one.resource.parameter("drbd_resource").unwrap_or("all")).collect();
    let names = names.join(" ");
    let mut remedy = format!(
        "on {target}: drbdadm cstate {names}: during a resync wait for its end (hvmail_ha status tells how far it is); \
         StandAlone: drbdadm connect {names}; WFConnection: mend the replication link"
    );
    let fences: Vec<_> = all.iter().filter_map(|one| Some((one.unsound, one.fence?))).collect();
    let gone = |node: &&String| picture.role(node) == Role::Offline;
    if let Some(node) = fences.iter().flat_map(|(_, fence)| &fence.spared).find(gone) {
        remedy.extend(["; switch ", node, " on: what it wrote alone is there"]);
    }
    for (_, fence) in fences.iter().filter(|(unsound, _)| !unsound) {
        remedy.extend([
            "; only if the constraint stays while both sides are connected and UpToDate: cibadmin --delete --xml-text \
             '<rsc_location id=\"",
            &fence.id,
            "\"/>'",
        ]);
    }
    (format!("DRBD on {target} is not UpToDate: {}", facts.join("; ")), remedy)
}

fn fact(picture: &Picture, target: &str, old: &Old) -> String {
    let id = &old.resource.id;
    let fence = old.fence.map_or_else(String::new, |fence| {
        format!(" (constraint {}: {} may have written without it)", fence.id, fence.spared.join(", "))
    });
    // Pacemaker keeps the first degraded answer of a monitor for as long as it is degraded. What the agent says on this node,
    // whichever side of the two it is, is of this moment.
    let here = picture.word(id).filter(|word| !word.is_sound()).map(|word| {
        if target == picture.here { word.text.clone() } else { format!("{} says: {}", picture.here, word.text) }
    });
    let mut kept = picture.state.failures.iter().rev().filter(|one| one.resource == *id && one.node == target);
    let reason = here.or_else(|| kept.find_map(|one| one.reason.clone()));
    format!("{id}{fence}{}", reason.map_or_else(String::new, |reason| format!(": {reason}")))
}
