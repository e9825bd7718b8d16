//! The configuration as Pacemaker's XML, for cibadmin.

use std::fmt::Write;

use crate::configure::agents::Operation;
use crate::configure::model::{Member, Model, Pair, Place, Primitive};
use crate::configure::preference::Preference;
use crate::configure::text::heading;
use crate::xml::escaped;

pub(crate) fn print(model: &Model) -> String {
    let apply = [
        "Look it over. Then, as root on one node of the running cluster:",
        "cibadmin -M -c -o configuration -x FILE (modify, create what is not there)",
    ];
    let lines = heading(model, &apply);
    let mut text =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!--\n{}\n-->\n<configuration>\n", lines.join("\n"));
    text += &section("crm_config", &set(4, "cluster_property_set", "cib-bootstrap-options", &model.properties()));
    let devices = model.fences.iter().map(|fence| primitive(4, fence));
    text += &section("resources", &devices.chain(model.chain.iter().map(member)).collect::<String>());
    text += &section("constraints", &constraints(model));
    text += &section("rsc_defaults", &set(4, "meta_attributes", "rsc-options", &model.defaults));
    let alert = |(id, path): &Pair| format!("    <alert{}/>\n", attributes(&[("id", id), ("path", path)]));
    text += &section("alerts", &model.alerts.iter().map(alert).collect::<String>());
    text + "</configuration>\n"
}

/// An empty one is left out.
fn section(name: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("  <{name}>\n{content}  </{name}>\n") }
}

fn member(member: &Member) -> String {
    let Some(own) = &member.clone else { return primitive(4, &member.primitive) };
    let id = member.id();
    let meta = [&[("promotable".to_owned(), "true".to_owned())], own.as_slice()].concat();
    let inner = set(6, "meta_attributes", &format!("{id}-meta_attributes"), &meta) + &primitive(6, &member.primitive);
    format!("    <clone{}>\n{inner}    </clone>\n", attributes(&[("id", &id)]))
}

fn primitive(depth: usize, one: &Primitive) -> String {
    let indent = " ".repeat(depth);
    let mut all = vec![("id", one.id.as_str()), ("class", one.standard)];
    all.extend(one.provider.map(|provider| ("provider", provider)));
    all.push(("type", &one.kind));
    let mut text = format!("{indent}<primitive{}>\n", attributes(&all));
    text += &set(depth + 2, "instance_attributes", &format!("{}-instance_attributes", one.id), &one.parameters);
    text += &set(depth + 2, "meta_attributes", &format!("{}-meta_attributes", one.id), &one.meta);
    let _ = writeln!(text, "{indent}  <operations>");
    text.extend(one.operations.iter().map(|operation| self::operation(depth + 4, &one.id, operation)));
    let _ = writeln!(text, "{indent}  </operations>\n{indent}</primitive>");
    text
}

fn operation(depth: usize, resource: &str, one: &Operation) -> String {
    let indent = " ".repeat(depth);
    let id = format!("{resource}-{}-{}", one.name, one.interval);
    let mut all = vec![("id", &*id), ("name", &one.name), ("interval", &one.interval), ("timeout", &one.timeout)];
    all.extend(one.role.as_ref().map(|role| ("role", role.as_str())));
    let Some(level) = &one.level else { return format!("{indent}<op{}/>\n", attributes(&all)) };
    let level = [("OCF_CHECK_LEVEL".to_owned(), level.clone())];
    let inner = set(depth + 2, "instance_attributes", &format!("{id}-instance_attributes"), &level);
    format!("{indent}<op{}>\n{inner}{indent}</op>\n", attributes(&all))
}

fn constraints(model: &Model) -> String {
    let apart = model.apart.iter().map(|(device, node)| {
        let id = format!("{device}-elsewhere");
        element(4, "rsc_location", &[("id", &id), ("rsc", device), ("node", node), ("score", "-INFINITY")])
    });
    let role = |place: &Place, name: &'static str| place.promoted.then_some((name, "Promoted"));
    let colocations = model.colocations.iter().map(|one| {
        let mut all = vec![("id", &*one.id), ("score", "INFINITY"), ("rsc", &one.dependent.id)];
        all.extend(role(&one.dependent, "rsc-role"));
        all.push(("with-rsc", &one.with.id));
        all.extend(role(&one.with, "with-rsc-role"));
        element(4, "rsc_colocation", &all)
    });
    let orders = model.orders.iter().map(|one| {
        let mut all = vec![("id", &*one.id), ("kind", if one.mandatory { "Mandatory" } else { "Optional" })];
        all.extend((!one.mandatory).then_some(("symmetrical", "false")));
        all.extend([("first", &*one.first.id), ("first-action", one.first.action)]);
        all.extend([("then", &*one.then.id), ("then-action", one.then.action)]);
        element(4, "rsc_order", &all)
    });
    apart.chain(model.preference.iter().map(preference)).chain(colocations).chain(orders).collect()
}

fn preference(one: &Preference) -> String {
    let rule = format!("{}-rule", one.id);
    let mut all = vec![("id", &*rule), ("score-attribute", &one.attribute)];
    all.extend(one.head.promoted.then_some(("role", "Promoted")));
    let location = attributes(&[("id", &one.id), ("rsc", &one.head.id)]);
    let defined = [("id", &*format!("{rule}-defined")), ("attribute", &one.attribute), ("operation", "defined")];
    let defined = element(8, "expression", &defined);
    format!(
        "    <rsc_location{location}>\n      <rule{}>\n{defined}      </rule>\n    </rsc_location>\n",
        attributes(&all)
    )
}

/// One without content.
fn element(depth: usize, name: &str, all: &[(&str, &str)]) -> String {
    format!("{}<{name}{}/>\n", " ".repeat(depth), attributes(all))
}

/// A set of names and values; an empty one is left out.
fn set(depth: usize, name: &str, id: &str, pairs: &[Pair]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let indent = " ".repeat(depth);
    let pair = |(name, value): &Pair| {
        let own = format!("{id}-{name}");
        format!("{indent}  <nvpair{}/>\n", attributes(&[("id", &own), ("name", name), ("value", value)]))
    };
    let inner: String = pairs.iter().map(pair).collect();
    format!("{indent}<{name}{}>\n{inner}{indent}</{name}>\n", attributes(&[("id", id)]))
}

fn attributes(all: &[(&str, &str)]) -> String {
    all.iter().flat_map(|(name, value)| [" ", name, "=\"", &escaped(value), "\""].map(str::to_owned)).collect()
}
