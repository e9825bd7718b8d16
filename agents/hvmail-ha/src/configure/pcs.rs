//! The configuration as a script of pcs commands, which change a file: it is pushed as a whole, or nothing of it.

use std::fmt::Write;

use crate::configure::model::{Colocation, Member, Model, Order, Place, Primitive};
use crate::configure::preference::Preference;
use crate::configure::text::{NEXT, assigned, heading, listed, operation, quoted};

/// Each command changes the file.
const PCS: &str = "pcs -f \"$cib\"";

pub(crate) fn print(model: &Model) -> String {
    let apply = [
        "Run as root on one node of the running cluster: sh SCRIPT. It changes a copy of the configuration and says how to",
        "push it; or the file that is named: sh SCRIPT FILE.",
    ];
    let mut text = "#!/bin/sh\n".to_owned();
    for line in heading(model, &apply) {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    text += "set -eu\numask 077\ncib=${1:-}\nif [ -z \"$cib\" ]; then\n    cib=$(mktemp -d)/cib.xml\n    pcs cluster cib \"$cib\"\n    \
             cp \"$cib\" \"$cib.before\"\nfi\n";
    for fence in &model.fences {
        let _ = writeln!(text, "{PCS} stonith create {} {}{}", fence.id, quoted(&fence.kind), rest(fence));
    }
    for (device, node) in &model.apart {
        let _ = writeln!(text, "{PCS} constraint location {device} avoids {node}");
    }
    for member in &model.chain {
        text += &resource(member);
    }
    let links = model.preference.iter().map(preference).chain(model.colocations.iter().map(colocation));
    let links = links.chain(model.orders.iter().map(order));
    links.for_each(|words| text.extend([PCS, " ", &words, "\n"]));
    let _ = writeln!(text, "{PCS} property set{}", listed(&model.properties()));
    let _ = writeln!(text, "{PCS} resource defaults update{}", listed(&model.defaults));
    for (id, path) in &model.alerts {
        let _ = writeln!(text, "{PCS} alert create id={id} {}", assigned("path", path));
    }
    text += "if [ -e \"$cib.before\" ]; then\n    echo \"To look at it: pcs -f $cib config\"\n    \
             echo \"To apply it: pcs cluster cib-push $cib diff-against=$cib.before\"\nfi\n";
    text
}

/// The clone by a command of its own: what `create … promotable` takes differs between pcs 0.11 and 0.12.
fn resource(member: &Member) -> String {
    let one = &member.primitive;
    let clone = member.clone.as_ref().map_or_else(String::new, |meta| {
        format!("{PCS} resource promotable {} {} meta{}\n", one.id, member.id(), listed(meta))
    });
    format!("{PCS} resource create {} {} --no-default-ops{}\n{clone}", one.id, one.agent(), rest(one))
}

/// What follows a resource's name and agent.
fn rest(one: &Primitive) -> String {
    let mut text = String::new();
    if !one.parameters.is_empty() {
        text += NEXT;
        text += listed(&one.parameters).trim_start();
    }
    text.extend(one.operations.iter().map(|one| format!("{NEXT}op {}", operation(one))));
    if !one.meta.is_empty() {
        let _ = write!(text, "{NEXT}meta{}", listed(&one.meta));
    }
    text
}

/// The condition in several words, as pcs 0.11 wants it; 0.12 takes that too, and says that one word were better.
pub(crate) fn preference(one: &Preference) -> String {
    let (head, attribute) = (&one.head, &one.attribute);
    let role = if head.promoted { " role=Promoted" } else { "" };
    let condition = format!("score-attribute={attribute} defined {attribute}");
    format!("constraint location {} rule constraint-id={}{role} {condition}", head.id, one.id)
}

pub(crate) fn colocation(one: &Colocation) -> String {
    let (dependent, with) = (place(&one.dependent), place(&one.with));
    format!("constraint colocation add {dependent} with {with} id={}", one.id)
}

pub(crate) fn order(one: &Order) -> String {
    let (first, then) = (&one.first, &one.then);
    let kind = if one.mandatory { "kind=Mandatory" } else { "kind=Optional symmetrical=false" };
    let steps = format!("{} {} then {} {}", first.action, first.id, then.action, then.id);
    format!("constraint order {steps} id={} {kind}", one.id)
}

fn place(place: &Place) -> String {
    format!("{}{}", if place.promoted { "Promoted " } else { "" }, place.id)
}
