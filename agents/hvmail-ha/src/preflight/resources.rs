//! The resources in a picture: what is held, has failed or is not ready where a node would take over.

use std::collections::BTreeSet;

use super::{READY, is_promoted, score};
use crate::cib::{Meta, Resource};
use crate::picture::Picture;

/// What somebody has told the cluster, each with the command that takes it back.
pub(super) fn held(picture: &Picture, target: &str) -> Vec<(String, String)> {
    let now = picture.at.as_second();
    let mut all = Vec::new();
    for one in picture.configuration.chain() {
        for left in picture.configuration.leftovers.iter().filter(|left| one.is_of(&left.resource)) {
            let there = left.node.as_deref() == Some(target);
            let hinders = (left.id.starts_with("cli-ban-") && there) || (left.id.starts_with("cli-prefer-") && !there);
            if hinders && left.until.is_none_or(|until| until > now) {
                let name = one.promotable.as_ref().unwrap_or(&left.resource);
                let fact = format!("constraint {} keeps {name} from {target}", left.id);
                all.push((fact, format!("crm_resource --clear --resource {name}")));
            }
        }
        let usual = |meta: &&Meta| !["Started", "Promoted", "Master"].contains(&meta.word.as_str());
        if let Some(meta) = one.target_role.as_ref().filter(usual) {
            let (name, word) = (holder(one, meta), &meta.word);
            let fact = format!("target-role={word} of {name} lets nobody be Primary");
            all.push((fact, format!("crm_resource --resource {name} --meta --delete-parameter target-role")));
        }
        all.extend(unmanaged(one));
    }
    // Of a group each member inherits it.
    let mut seen = BTreeSet::new();
    all.retain(|one| seen.insert(one.clone()));
    all
}

/// What somebody has taken out of the cluster's hands, and the command that gives it back.
pub(crate) fn unmanaged(one: &Resource) -> Option<(String, String)> {
    let meta = one.unmanaged.as_ref()?;
    let (name, word) = (holder(one, meta), &meta.word);
    let fact = format!("{name} is not managed ({word}): the cluster does nothing with it");
    Some((fact, format!("crm_resource --resource {name} --meta --delete-parameter {word}")))
}

/// What crm_resource is told to take a meta attribute from: of a clone it finds the primitive's too.
fn holder<'a>(one: &'a Resource, meta: &'a Meta) -> &'a str {
    one.promotable.as_ref().unwrap_or(&meta.of)
}

pub(super) fn failed<'a>(picture: &'a Picture, target: &str) -> Vec<&'a str> {
    let banned = |id: &&str| {
        picture.state.counts.iter().any(|count| count.resource == *id && count.node == target && count.banned)
            || picture.instance(id, target).is_some_and(|one| one.failed || one.blocked)
    };
    picture.configuration.chain().map(|one| one.id.as_str()).filter(banned).collect()
}

/// What is not ready, and why, without the database and DRBD, which are judged by themselves.
pub(super) fn unready(picture: &Picture, target: &str) -> Vec<String> {
    let failed = failed(picture, target);
    let mut all = Vec::new();
    for resource in picture.configuration.roles() {
        let id = resource.id.as_str();
        let apart = resource.agent == "ocf:greenarrow:postgresql" || resource.agent.ends_with(":drbd");
        if apart || failed.contains(&id) || is_promoted(picture, id, target) {
            continue;
        }
        let least = if resource.agent.starts_with("ocf:greenarrow:") { READY } else { 0 };
        let reason = picture.state.failures.iter().rev().find(|one| one.resource == id && one.node == target);
        let reason = reason.and_then(|one| one.reason.clone()).map_or_else(String::new, |reason| format!(": {reason}"));
        match (picture.instance(id, target), score(picture, id, target)) {
            (None, _) => all.push(format!("{id} does not run there{reason}")),
            (_, None) => all.push(format!("{id} is not to be promoted there{reason}")),
            (_, Some(score)) if score < least => {
                all.push(format!("{id} has promotion score {score} there, not {least}{reason}"));
            }
            _ => {}
        }
    }
    all.extend(lists_differ(picture));
    all
}

/// A sentence for each resource whose lists of addresses are not the same. Of several it is named.
pub(crate) fn lists_differ(picture: &Picture) -> Vec<String> {
    let resources: Vec<_> = picture.configuration.all_of_agent("primary-ips").collect();
    let differ = |resource: &&Resource| {
        let mut of = picture.lists.iter().filter(|list| list.resource == resource.id);
        let first = of.next()?;
        let other = of.find(|list| list.told != first.told)?;
        let name = if resources.len() > 1 { format!(" of {}", resource.id) } else { String::new() };
        let [here, there] =
            [first, other].map(|list| format!("{} has {}", list.node, list.count().unwrap_or_default()));
        Some(format!("the lists of addresses{name} differ: {here}, {there} addresses"))
    };
    resources.iter().filter_map(differ).collect()
}
