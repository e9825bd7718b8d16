//! A cluster's configuration held against the wanted one: by what the parts are, not by what they are called. Nothing is
//! read or touched here.

use std::collections::BTreeSet;

use crate::configure::agents::{Agent, Operation};
use crate::configure::found::{self, End, Found, Resource, yes};
use crate::configure::model::{Colocation, FENCING_DELAY, Member, Model, Order, Place, Primitive, Step, value};
use crate::configure::preference::{Preference, score_of};
use crate::configure::text::{assigned, operation, quoted};
use crate::configure::{crm, pcs};

/// Pacemaker's own timeout for an operation that has none (Pacemaker Explained, "Resource Operations").
const USUAL_TIMEOUT: &str = "20s";

/// Something that is otherwise than wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// Everything that is otherwise, what costs most first.
pub(crate) fn differences(model: &Model, found: &Found) -> Vec<Difference> {
    let mut all = Vec::new();
    fencing(model, found, &mut all);
    let there: Vec<_> = model.chain.iter().map(|member| (member, same(model, member, found))).collect();
    for (member, resource) in &there {
        match resource {
            Some(resource) => of_resource(member, resource, found, &mut all),
            None => add(
                &mut all,
                missing(&member.primitive, found),
                "hvmail_ha configure --crm (or --pcs, --xml) prints it",
            ),
        }
    }
    let present: Vec<_> = there.iter().filter_map(|(member, resource)| Some((*member, (*resource)?))).collect();
    for pair in present.windows(2) {
        links(pair[0], pair[1], found, &mut all);
    }
    if let Some(wish) = &model.preference {
        led(wish, &present, found, &mut all);
    }
    let wishes = model.orders.iter().filter(|one| !one.mandatory);
    wishes.for_each(|wish| starts(wish, &present, found, &mut all));
    of_cluster(model, found, &mut all);
    all
}

fn add(all: &mut Vec<Difference>, what: impl Into<String>, remedy: impl Into<String>) {
    all.push(Difference { what: what.into(), remedy: remedy.into() });
}

fn fencing(model: &Model, found: &Found, all: &mut Vec<Difference>) {
    let enabled = value(&found.properties, "stonith-enabled").or(value(&found.properties, "fencing-enabled"));
    if !model.fencing {
        return;
    }
    if !enabled.is_none_or(yes) {
        let what = format!("stonith-enabled=false: there is no fencing: {}", model.breaks.join("; "));
        add(all, what, "with a device for each node: crm_attribute --name stonith-enabled --update true");
    }
    if let Some(wish) = model.fencing_delay
        && value(&found.properties, FENCING_DELAY).and_then(number).unwrap_or(0) == 0
    {
        let what = format!("{FENCING_DELAY} is not set: nodes that lose each other may both switch the other off");
        add(all, what, format!("crm_attribute --name {FENCING_DELAY} --update {wish}s"));
    }
    let devices: Vec<_> = found.resources.iter().filter(|one| one.agent.starts_with("stonith:")).collect();
    for node in &model.nodes {
        if !devices.iter().any(|device| fences(device, node)) {
            let remedy = format!(
                "pcs stonith create fence-{node} AGENT pcmk_host_list={node} …, or: crm configure primitive fence-{node} \
                 stonith:AGENT params pcmk_host_list={node} … (stonith_admin --list-installed)"
            );
            add(all, format!("no fencing device can switch {node} off"), remedy);
        }
    }
}

/// A device without a list is asked for its own, which is not known here.
fn fences(device: &Resource, node: &str) -> bool {
    let given = |name: &str| value(&device.parameters, name);
    let names = |text: &str| text.split([' ', ',', ';']).any(|one| one.split([':', '=']).next() == Some(node));
    match (given("pcmk_host_list"), given("pcmk_host_map")) {
        (None, None) => true,
        (list, map) => list.is_some_and(names) || map.is_some_and(names),
    }
}

/// The resource of the same agent that does the same; or the only one, where only one is wanted.
fn same<'a>(model: &Model, member: &Member, found: &'a Found) -> Option<&'a Resource> {
    let wanted = &member.primitive;
    let agent = wanted.agent();
    let of_agent: Vec<_> = found.resources.iter().filter(|one| one.agent == agent).collect();
    let exact = of_agent.iter().find(|one| {
        distinguishing(wanted)
            .iter()
            .all(|name| effective(wanted, &one.parameters, name) == effective(wanted, &wanted.parameters, name))
    });
    let single =
        model.chain.iter().filter(|other| other.primitive.agent() == agent).count() == 1 && of_agent.len() == 1;
    exact.or(of_agent.first().filter(|_| single)).copied()
}

/// The parameters that tell one resource of an agent from another.
fn distinguishing(wanted: &Primitive) -> Vec<String> {
    match Agent::of(&wanted.kind) {
        Ok(agent) => agent.parameters.into_iter().filter(|one| one.distinguishes).map(|one| one.name).collect(),
        Err(_) => vec!["directory".to_owned()],
    }
}

/// What a parameter comes to, the agent's default included.
fn effective(wanted: &Primitive, parameters: &[(String, String)], name: &str) -> Option<String> {
    let default = || Agent::of(&wanted.kind).ok()?.parameter(name)?.default.clone();
    value(parameters, name).map(str::to_owned).or_else(default)
}

fn missing(wanted: &Primitive, found: &Found) -> String {
    let own = distinguishing(wanted);
    let shown = |name: &String| effective(wanted, &wanted.parameters, name).map(|value| assigned(name, &value));
    let own = own.iter().filter_map(shown).collect::<Vec<_>>().join(" ");
    let agent = wanted.agent();
    let others: Vec<_> = found.resources.iter().filter(|one| one.agent == agent).map(|one| one.id.as_str()).collect();
    let others = if others.is_empty() { String::new() } else { format!("; there is {}", others.join(", ")) };
    format!("no resource {agent} with {own}{others}")
}

fn of_resource(member: &Member, resource: &Resource, found: &Found, all: &mut Vec<Difference>) {
    let (wanted, id) = (&member.primitive, &resource.id);
    for (name, wish) in &wanted.parameters {
        let is = effective(wanted, &resource.parameters, name);
        if is.as_ref() != Some(wish) {
            let is = is.map_or_else(|| format!("{name} is not set"), |is| assigned(name, &is));
            let remedy =
                format!("crm_resource --resource {id} --set-parameter {name} --parameter-value {}", quoted(wish));
            add(all, format!("{id}: {is}; wanted is {}", assigned(name, wish)), remedy);
        }
    }
    if let Some(clone) = &member.clone {
        if resource.promotable {
            of_clone(clone, resource, all);
        } else {
            let what = format!("{id} is in no promotable clone: it has no Primary and no standby");
            add(
                all,
                what,
                format!("pcs resource promotable {id}, or: crm configure clone {id}-clone {id} meta promotable=true"),
            );
        }
    }
    of_meta(wanted, resource, found, all);
    of_operations(wanted, resource, found, all);
}

fn of_clone(wanted: &[(String, String)], resource: &Resource, all: &mut Vec<Difference>) {
    let clone = &resource.top;
    for (name, wish) in wanted {
        let is = value(&resource.meta, name);
        let (fits, why) = match name.as_str() {
            "notify" => (is.is_some_and(yes), "the agent is not told who is promoted and who is gone"),
            "interleave" => (is.is_some_and(yes), "what follows waits for every node, and stops with any"),
            // Without it there is an instance for every node.
            "clone-max" => (is.is_none_or(|is| number(is) >= number(wish)), "a node has no instance"),
            _ => (is == Some(wish), "it is wanted otherwise"),
        };
        if !fits {
            let is = is.map_or_else(|| format!("{name} is not set"), |is| format!("{name}={is}"));
            let remedy =
                format!("crm_resource --resource {clone} --meta --set-parameter {name} --parameter-value {wish}");
            add(all, format!("{clone}: {is}, not {wish}: {why}"), remedy);
        }
    }
}

fn of_meta(wanted: &Primitive, resource: &Resource, found: &Found, all: &mut Vec<Difference>) {
    let id = &resource.id;
    for (name, wish) in &wanted.meta {
        let is = value(&resource.meta, name).or(value(&found.defaults, name));
        // Which number is a matter of taste; that there is one is not.
        if is.is_some_and(|is| number(is).is_some_and(|number| number > 0)) {
            continue;
        }
        let why = match name.as_str() {
            "migration-threshold" => {
                "when it fails it is recovered where it is, again and again, however ready the other node is"
            }
            "priority" => "the Primary's fencing is delayed no more than the other's",
            _ => "a node where it has failed stays barred until somebody cleans up",
        };
        let is = is.map_or_else(|| format!("{name} is not set"), |is| format!("{name}={is}"));
        let remedy = format!("crm_resource --resource {id} --meta --set-parameter {name} --parameter-value {wish}");
        add(all, format!("{id}: {is}: {why}"), remedy);
    }
}

/// The number that a text begins with; none for INFINITY.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn of_operations(wanted: &Primitive, resource: &Resource, found: &Found, all: &mut Vec<Difference>) {
    let id = &resource.id;
    for wish in &wanted.operations {
        let is = resource.operations.iter().find(|one| does_the_same(one, wish));
        // The interval is what pcs knows an operation by.
        let interval = is.map(|is| &is.interval).filter(|one| !one.is_empty()).unwrap_or(&wish.interval);
        let words = operation(&Operation { interval: interval.clone(), ..wish.clone() });
        let remedy = format!("pcs resource update {id} op {words}, or: crm configure edit {id}");
        let name = described(wish);
        let usual = value(&found.operation_defaults, "timeout").unwrap_or(USUAL_TIMEOUT);
        let timeout = is.map(|is| is.timeout.as_str()).filter(|timeout| !timeout.is_empty()).unwrap_or(usual);
        if is.is_none() && wish.name == "monitor" {
            let lost = wish.level.as_ref().map_or("its failures go", |_| "what only that looks at goes");
            add(all, format!("{id} has no {name}: {lost} unnoticed"), remedy);
        } else if let (Some(has), Some(needs)) = (milliseconds(timeout), milliseconds(&wish.timeout))
            && has < needs
        {
            let source = if is.is_some_and(|is| !is.timeout.is_empty()) { "" } else { " (the default)" };
            let what = format!("{id}: the timeout of {name} is {timeout}{source}, the agent asks for {}", wish.timeout);
            add(all, what, remedy);
        }
    }
    let monitors: Vec<_> = resource.operations.iter().filter(|one| one.name == "monitor").collect();
    let twin = monitors.iter().enumerate().find_map(|(place, one)| {
        monitors[..place].iter().find(|other| milliseconds(&other.interval) == milliseconds(&one.interval))
    });
    if let Some(twin) = twin {
        let what = format!("{id} has two monitors with the interval {}: Pacemaker runs one of them", twin.interval);
        add(all, what, format!("crm configure edit {id}, or pcs resource update: another interval for each"));
    }
}

fn described(one: &Operation) -> String {
    let role = one.role.as_ref().map_or_else(String::new, |role| format!(" of the {} instance", role.to_lowercase()));
    let level = one.level.as_ref().map_or_else(String::new, |level| format!(" at check level {level}"));
    format!("{}{role}{level}", one.name)
}

/// A monitor of another interval does the same; one without a role is that of what is started, which is unpromoted.
fn does_the_same(one: &Operation, wish: &Operation) -> bool {
    let role = |operation: &Operation| match operation.role.as_deref() {
        None | Some("Started" | "Unpromoted") => None,
        Some(role) => Some(role.to_owned()),
    };
    one.name == wish.name && role(one) == role(wish) && one.level == wish.level
}

/// As Pacemaker reads a time: a number of seconds, or with a unit. None for what is written otherwise.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim() {
        "ms" | "msec" => 1,
        "" | "s" | "sec" => 1000,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

type There<'a> = (&'a Member, &'a Resource);

fn links(first: There, then: There, found: &Found, all: &mut Vec<Difference>) {
    let (before, behind) = (&first.1.top, &then.1.top);
    if before == behind {
        // Members of one group.
        return;
    }
    let promoted: BTreeSet<_> =
        found.resources.iter().filter(|one| one.promotable).map(|one| one.top.as_str()).collect();
    let usable = |end: &End, word: &str| !promoted.contains(top(found, &end.id)) || end.role == word;
    let edges = |pairs: &[(End, End)], word: &str| -> Vec<(String, String)> {
        let fit = pairs.iter().filter(|(one, other)| usable(one, word) && usable(other, word));
        fit.map(|(one, other)| (top(found, &one.id).to_owned(), top(found, &other.id).to_owned())).collect()
    };
    let place = |there: There| Place { id: there.1.top.clone(), promoted: there.0.clone.is_some() };
    if !leads(&edges(&found.colocations, "Promoted"), behind, before) {
        let id = format!("{}-with-{}", then.1.id, first.1.id);
        let one = Colocation { id, dependent: place(then), with: place(first) };
        let what = format!("nothing keeps {} where {} is", named(then), named(first));
        add(all, what, format!("pcs {}, or: crm configure {}", pcs::colocation(&one), crm::colocation(&one)));
    }
    let kept: Vec<_> = found.orders.iter().filter(|one| one.mandatory).collect();
    let kept: Vec<_> = kept.into_iter().map(|one| (one.first.clone(), one.then.clone())).collect();
    if !leads(&edges(&kept, "promote"), before, behind) {
        let step = |there: There| {
            let action = if there.0.clone.is_some() { "promote" } else { "start" };
            Step { id: there.1.top.clone(), action }
        };
        let id = format!("{}-after-{}", then.1.id, first.1.id);
        let one = Order { id, first: step(first), then: step(then), mandatory: true };
        let what = format!("nothing makes {} wait for {}", named(then), named(first));
        add(all, what, format!("pcs {}, or: crm configure {}", pcs::order(&one), crm::order(&one)));
    }
}

/// The head of the chain and the database, by whatever they are called.
fn led(wish: &Preference, present: &[There], found: &Found, all: &mut Vec<Difference>) {
    let database = present.iter().find(|(member, _)| score_of(&member.primitive.id) == wish.attribute);
    let (Some(head), Some(database)) = (present.iter().find(|(member, _)| member.place() == wish.head), database)
    else {
        return;
    };
    let attribute = score_of(&database.1.id);
    let fits = |one: &&found::Preference| {
        let role = if wish.head.promoted { one.head.role == "Promoted" } else { one.head.role != "Promoted" };
        role && top(found, &one.head.id) == head.1.top && one.attribute == attribute
    };
    let (head, id) = (*head, &database.1.id);
    match found.preferences.iter().find(fits) {
        Some(one) if one.defined => {}
        Some(one) => {
            let what = format!("{} bars {} from a node where {id} has no score yet", one.id, named(head));
            add(
                all,
                what,
                format!("its rule needs the condition: defined {attribute} (crm configure edit {})", one.id),
            );
        }
        None => {
            let place = Place { id: head.1.top.clone(), promoted: wish.head.promoted };
            let one = Preference { id: format!("{}-where-{id}", head.1.id), head: place, attribute };
            let what = format!(
                "nothing brings {} to the node with the better database: where {id} has less of the log it refuses, twice, \
                 and is barred",
                named(head)
            );
            add(all, what, format!("pcs {}, or: crm configure {}", pcs::preference(&one), crm::preference(&one)));
        }
    }
}

/// An order between starts, which are at once at a boot only.
fn starts(wish: &Order, present: &[There], found: &Found, all: &mut Vec<Difference>) {
    let of = |id: &str| present.iter().find(|(member, _)| member.id() == id).map(|(_, resource)| resource.top.as_str());
    let (Some(first), Some(then)) = (of(&wish.first.id), of(&wish.then.id)) else { return };
    let started = |end: &End, id: &str| top(found, &end.id) == id && ["", "start"].contains(&&*end.role);
    if !found.orders.iter().any(|one| started(&one.first, first) && started(&one.then, then)) {
        let what = format!(
            "nothing makes the start of {then} wait for that of {first}, which starts svscan: at a boot it fails"
        );
        add(all, what, format!("pcs {}, or: crm configure {}", pcs::order(wish), crm::order(wish)));
    }
}

fn named(there: There) -> String {
    let promoted = if there.0.clone.is_some() { "the promoted " } else { "" };
    format!("{promoted}{}", there.1.top)
}

/// The outermost resource that an id belongs to.
fn top<'a>(found: &'a Found, id: &'a str) -> &'a str {
    found.resources.iter().find(|one| one.id == id).map_or(id, |one| &one.top)
}

/// Whether one leads to the other, perhaps by way of others.
fn leads(edges: &[(String, String)], from: &str, to: &str) -> bool {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if reached.insert(at) {
            open.extend(edges.iter().filter(|(one, _)| one == at).map(|(_, other)| other.as_str()));
        }
    }
    false
}

fn of_cluster(model: &Model, found: &Found, all: &mut Vec<Difference>) {
    for (name, wish) in &model.defaults {
        let is = value(&found.defaults, name);
        if !is.is_some_and(|is| is.ends_with("INFINITY") || number(is).is_some_and(|number| number > 0)) {
            let is = is.map_or_else(|| "is not set".to_owned(), |is| format!("is {is}"));
            let remedy = format!("crm_attribute --type rsc_defaults --name {name} --update {wish}");
            add(all, format!("{name} {is}: resources may move for nothing"), remedy);
        }
    }
    for (id, path) in model.alerts.iter().filter(|(_, path)| !found.alerts.contains(path)) {
        let words = assigned("path", path);
        let remedy = format!("pcs alert create id={id} {words}, or: crm configure alert {id} {}", quoted(path));
        add(all, format!("no alert calls {path}"), remedy);
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
