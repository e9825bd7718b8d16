//! The configuration for `crm configure load update FILE` (crmsh).

use std::fmt::Write;

use anyhow::{Result, ensure};

use crate::configure::model::{Colocation, Model, Order, Place, Primitive};
use crate::configure::preference::Preference;
use crate::configure::text::{NEXT, heading, listed, operation, quoted};

/// crmsh makes references of XML of what is not ASCII, and takes them literally then (parse.py, `xmlcharrefreplace`).
pub(crate) fn print(model: &Model) -> Result<String> {
    let apply = ["Look it over. Then, as root on one node of the running cluster: crm configure load update FILE"];
    let mut text = String::new();
    for line in heading(model, &apply) {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    for fence in &model.fences {
        text += &primitive(fence);
    }
    for (device, node) in &model.apart {
        let _ = writeln!(text, "location {device}-elsewhere {device} -inf: {node}");
    }
    for member in &model.chain {
        text += &primitive(&member.primitive);
        if let Some(meta) = &member.clone {
            let meta = listed(meta);
            let _ = writeln!(text, "clone {} {} meta promotable=true{meta}", member.id(), member.primitive.id);
        }
    }
    let links = model.preference.iter().map(preference).chain(model.colocations.iter().map(colocation));
    let links = links.chain(model.orders.iter().map(order));
    links.for_each(|line| text.extend([&line, "\n"]));
    let _ = writeln!(text, "property cib-bootstrap-options:{}", listed(&model.properties()));
    let _ = writeln!(text, "rsc_defaults rsc-options:{}", listed(&model.defaults));
    for (id, path) in &model.alerts {
        let _ = writeln!(text, "alert {id} {}", quoted(path));
    }
    ensure!(text.is_ascii(), "crm takes ASCII only, and a value has other characters: print --pcs or --xml");
    Ok(text)
}

fn primitive(one: &Primitive) -> String {
    let mut text = format!("primitive {} {}", one.id, one.agent());
    for (keyword, pairs) in [("params", &one.parameters), ("meta", &one.meta)] {
        if !pairs.is_empty() {
            let _ = write!(text, "{NEXT}{keyword}{}", listed(pairs));
        }
    }
    text.extend(one.operations.iter().map(|one| format!("{NEXT}op {}", operation(one))));
    text + "\n"
}

pub(crate) fn preference(one: &Preference) -> String {
    let (head, attribute) = (&one.head, &one.attribute);
    let role = if head.promoted { " role=Promoted" } else { "" };
    format!("location {} {} rule{role} {attribute}: defined {attribute}", one.id, head.id)
}

pub(crate) fn colocation(one: &Colocation) -> String {
    format!("colocation {} inf: {} {}", one.id, place(&one.dependent), place(&one.with))
}

pub(crate) fn order(one: &Order) -> String {
    let (first, then) = (&one.first, &one.then);
    let kind = if one.mandatory { "Mandatory" } else { "Optional" };
    let steps = format!("{}:{} {}:{}", first.id, first.action, then.id, then.action);
    format!("order {} {kind}: {steps}{}", one.id, if one.mandatory { "" } else { " symmetrical=false" })
}

fn place(place: &Place) -> String {
    format!("{}{}", place.id, if place.promoted { ":Promoted" } else { "" })
}
