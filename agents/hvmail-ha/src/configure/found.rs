//! A cluster's configuration as far as it is compared: `cibadmin --query`, or a file of it.

use anyhow::{Context, Result, ensure};

use crate::configure::agents::{Agent, Operation};
use crate::configure::check::number;
use crate::configure::model::{FENCING_DELAY, Pair, value};
use crate::configure::options::{Mount, Node, Options, Setting};
use crate::xml::Element;

/// What is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) nodes: Vec<String>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) preferences: Vec<Preference>,
    pub(crate) colocations: Vec<(End, End)>,
    pub(crate) orders: Vec<Order>,
    pub(crate) properties: Vec<Pair>,
    pub(crate) defaults: Vec<Pair>,
    pub(crate) operation_defaults: Vec<Pair>,
    pub(crate) alerts: Vec<String>,
}

/// A primitive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) id: String,
    /// CLASS:PROVIDER:TYPE.
    pub(crate) agent: String,
    /// The clone or group that it is in, the outermost; its own id where it is in none.
    pub(crate) top: String,
    /// It is in a promotable clone.
    pub(crate) promotable: bool,
    pub(crate) parameters: Vec<Pair>,
    /// Its own, then what it has from the group or clone.
    pub(crate) meta: Vec<Pair>,
    pub(crate) operations: Vec<Operation>,
}

/// A place by the value of a node attribute: a location with a rule that has `score-attribute`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preference {
    pub(crate) id: String,
    /// What is placed, in which role.
    pub(crate) head: End,
    pub(crate) attribute: String,
    /// Only where the attribute has a value.
    pub(crate) defined: bool,
}

/// What is first, and what is then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) first: End,
    pub(crate) then: End,
    /// Not only if both are to be done at once.
    pub(crate) mandatory: bool,
}

/// One end of a constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) id: String,
    /// The role, or the action; empty where none is named.
    pub(crate) role: String,
}

impl Found {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let root = Element::parse(text).context("the configuration is not in XML")?;
        let configuration =
            if root.name == "configuration" { Some(&root) } else { root.children("configuration").next() };
        let configuration = configuration
            .with_context(|| format!("a cib with a configuration is expected, found <{}> without one", root.name))?;
        let mut found = Self {
            nodes: configuration.at(&["nodes", "node"]).into_iter().map(|node| node.get("uname").to_owned()).collect(),
            properties: pairs(&configuration.at(&["crm_config", "cluster_property_set"])),
            defaults: pairs(&configuration.at(&["rsc_defaults", "meta_attributes"])),
            operation_defaults: pairs(&configuration.at(&["op_defaults", "meta_attributes"])),
            alerts: configuration.at(&["alerts", "alert"]).into_iter().map(|one| one.get("path").to_owned()).collect(),
            ..Self::default()
        };
        for resources in configuration.children("resources") {
            let templates: Vec<_> = resources.children("template").collect();
            for child in &resources.children {
                gather(child, &Place::default(), &templates, &mut found.resources);
            }
        }
        for one in configuration.at(&["constraints", "rsc_location"]) {
            found.preferences.extend(one.children("rule").filter_map(|rule| preference(one, rule)));
        }
        for one in configuration.at(&["constraints", "rsc_colocation"]) {
            found.colocations.extend(colocation(one));
        }
        for one in configuration.at(&["constraints", "rsc_order"]) {
            found.orders.extend(orders(one));
        }
        Ok(found)
    }

    /// What would have been said for a configuration with these resources: so that they are held against their agents.
    pub(crate) fn as_options(&self) -> Result<Options> {
        let of = |agent: &str| {
            let agent = agent.to_owned();
            self.resources.iter().filter(move |one| one.agent == agent)
        };
        let text = |one: &Resource, name: &str| value(&one.parameters, name).unwrap_or_default().to_owned();
        let mounts = of("ocf:heartbeat:Filesystem").map(|one| Mount {
            device: text(one, "device"),
            directory: text(one, "directory"),
            kind: text(one, "fstype"),
            options: value(&one.parameters, "options").map(str::to_owned),
        });
        let mut options = Options {
            nodes: self.nodes.iter().map(|name| Node { name: name.clone(), address: None }).collect(),
            drbd: of("ocf:greenarrow:drbd").map(|one| text(one, "drbd_resource")).collect(),
            mounts: mounts.collect(),
            fencing_delay: value(&self.properties, FENCING_DELAY).and_then(number).filter(|seconds| *seconds > 0),
            ..Options::default()
        };
        for name in Agent::names() {
            let agent = Agent::of(name)?;
            let Some(resource) = of(&format!("ocf:greenarrow:{name}")).next() else { continue };
            let given = |parameter: &str| {
                let default = agent.parameter(parameter).and_then(|one| one.default.as_deref());
                value(&resource.parameters, parameter).or(default).map(str::to_owned)
            };
            match name {
                "postgresql" => options.database = given("pgdata"),
                "primary-ips" => options.ip_file = given("ip_file"),
                "services" => options.services = given("pattern"),
                _ => {}
            }
            let settings = agent.parameters.iter().filter(|one| !one.distinguishes).filter_map(|one| {
                let [agent, name] = [name, &one.name].map(str::to_owned);
                Some(Setting { agent, value: given(&name)?, name })
            });
            options.settings.extend(settings);
        }
        ensure!(
            options.has_parts(),
            "the cluster has no resource of this package's agents: say what is wanted (hvmail_ha configure --help)"
        );
        Ok(options)
    }
}

/// Where in the tree of resources.
#[derive(Clone, Debug, Default)]
struct Place {
    top: Option<String>,
    promotable: bool,
    meta: Vec<Pair>,
}

fn gather(element: &Element, place: &Place, templates: &[&Element], found: &mut Vec<Resource>) {
    let own = pairs(&element.at(&["meta_attributes"]));
    match element.name.as_str() {
        "primitive" => {
            let template = templates.iter().find(|one| one.get("id") == element.get("template")).copied();
            found.push(primitive(element, template, place, own));
        }
        "clone" | "group" | "master" => {
            let promotable = element.name == "master" || value(&own, "promotable").is_some_and(yes);
            let inner = Place {
                top: place.top.clone().or_else(|| element.text("id")),
                promotable: place.promotable || promotable,
                meta: [own, place.meta.clone()].concat(),
            };
            element.children.iter().for_each(|child| gather(child, &inner, templates, found));
        }
        _ => {}
    }
}

fn primitive(element: &Element, template: Option<&Element>, place: &Place, own: Vec<Pair>) -> Resource {
    let both: Vec<_> = [Some(element), template].into_iter().flatten().collect();
    let kind = ["class", "provider", "type"].map(|part| both.iter().find_map(|one| one.text(part)));
    let sets = |path: &[&str]| both.iter().flat_map(|one| one.at(path)).collect::<Vec<_>>();
    let inherited = template.map(|one| pairs(&one.at(&["meta_attributes"]))).unwrap_or_default();
    Resource {
        id: element.get("id").to_owned(),
        agent: kind.into_iter().flatten().collect::<Vec<_>>().join(":"),
        top: place.top.clone().unwrap_or_else(|| element.get("id").to_owned()),
        promotable: place.promotable,
        parameters: pairs(&sets(&["instance_attributes"])),
        meta: [own, inherited, place.meta.clone()].concat(),
        operations: sets(&["operations", "op"]).into_iter().map(operation).collect(),
    }
}

fn operation(op: &Element) -> Operation {
    let role = match op.get("role") {
        "Master" => "Promoted",
        "Slave" => "Unpromoted",
        role => role,
    };
    let level = value(&pairs(&op.at(&["instance_attributes"])), "OCF_CHECK_LEVEL").map(str::to_owned);
    Operation {
        role: Some(role.to_owned()).filter(|role| !role.is_empty()),
        level: level.filter(|level| level != "0"),
        ..Operation::new(op.get("name"), op.get("interval"), op.get("timeout"))
    }
}

fn pairs(sets: &[&Element]) -> Vec<Pair> {
    let all = sets.iter().flat_map(|set| set.children("nvpair"));
    all.map(|one| (one.get("name").to_owned(), one.get("value").to_owned())).collect()
}

/// As Pacemaker reads it (crm_is_true).
pub(crate) fn yes(word: &str) -> bool {
    ["true", "on", "yes", "y", "1"].contains(&word.to_ascii_lowercase().as_str())
}

fn end(element: &Element, id: &str, role: &str) -> End {
    let role = if element.get(role) == "Master" { "Promoted" } else { element.get(role) };
    End { id: element.get(id).to_owned(), role: role.to_owned() }
}

fn preference(location: &Element, rule: &Element) -> Option<Preference> {
    let attribute = rule.text("score-attribute")?;
    let mut conditions = rule.children("expression");
    let defined = |one: &Element| one.get("attribute") == attribute && one.get("operation") == "defined";
    Some(Preference {
        id: location.get("id").to_owned(),
        head: End { id: location.get("rsc").to_owned(), ..end(rule, "", "role") },
        defined: conditions.any(defined) && rule.get("boolean-op") != "or",
        attribute,
    })
}

/// Of a colocation that lets nothing run elsewhere. Sets are taken as all with all: together is what they mean.
fn colocation(one: &Element) -> Vec<(End, End)> {
    if !["INFINITY", "+INFINITY"].contains(&one.get("score")) && one.children("resource_set").next().is_none() {
        return Vec::new();
    }
    let members = members(one, "role");
    if members.is_empty() {
        return vec![(end(one, "rsc", "rsc-role"), end(one, "with-rsc", "with-rsc-role"))];
    }
    let all = members.iter().flat_map(|first| members.iter().map(move |second| (first.clone(), second.clone())));
    all.filter(|(first, second)| first.id != second.id).collect()
}

fn orders(one: &Element) -> Vec<Order> {
    let mandatory = ["", "Mandatory"].contains(&one.get("kind")) && one.get("score") != "0";
    let members = members(one, "action");
    if !members.is_empty() {
        let pairs = members.windows(2);
        return pairs.map(|pair| Order { first: pair[0].clone(), then: pair[1].clone(), mandatory }).collect();
    }
    let (first, mut then) = (end(one, "first", "first-action"), end(one, "then", "then-action"));
    if then.role.is_empty() {
        then.role.clone_from(&first.role);
    }
    vec![Order { first, then, mandatory }]
}

/// What the sets of a constraint name, in their order.
fn members(one: &Element, role: &str) -> Vec<End> {
    let of = |set: &Element| {
        let role = end(set, "", role).role;
        set.children("resource_ref").map(|member| End { id: member.get("id").to_owned(), role: role.clone() }).collect()
    };
    one.children("resource_set").flat_map(|set| -> Vec<End> { of(set) }).collect()
}
