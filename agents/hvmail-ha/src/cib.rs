//! The configuration as `cibadmin --query --scope configuration` has it: the resources of the pair, and what the operator's
//! commands leave in it.

use anyhow::{Context, Result};

use crate::xml::{Element, escaped};

/// Ids of the constraints that a move is made with begin so, then NODE-RESOURCE: who moves, and what.
pub(crate) const MOVE: &str = "hvmail-move-";
/// Ids of the meta attributes that keep every node from being Primary begin so.
pub(crate) const STOP: &str = "hvmail-stop-";
/// Ids of the constraints of DRBD's handlers begin so, unless the handlers are told otherwise (--id-prefix).
const FENCE: &str = "drbd-fence-by-handler";
/// The meta attribute beside target-role that says which node was Primary last.
const LAST_PRIMARY: &str = "hvmail-primary";

/// What the cluster is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) resources: Vec<Resource>,
    /// Location constraints that a command left: those of `crm_resource --move` and `--ban`, and this program's.
    pub(crate) leftovers: Vec<Leftover>,
    /// What DRBD's handlers have placed.
    pub(crate) fences: Vec<Fence>,
    /// What nodes lack by the word of a primary that wrote without them (attribute RESOURCE-lacks of postgresql).
    pub(crate) lacks: Vec<Lacks>,
    /// Which node was Primary when `hvmail_make_secondary --stop` took the role from all.
    pub(crate) stopped: Option<Stopped>,
    /// Nodes that were never seen are taken for dead without being fenced (property startup-fencing=false).
    pub(crate) trusts_unseen: bool,
}

/// A primitive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) id: String,
    /// CLASS:PROVIDER:TYPE.
    pub(crate) agent: String,
    /// The clones and groups that it is in, the outermost first.
    pub(crate) inside: Vec<String>,
    /// The promotable clone that it is in.
    pub(crate) promotable: Option<String>,
    /// Not promotable, and tied to what is: it has to run where that is promoted.
    pub(crate) follows: bool,
    pub(crate) parameters: Vec<(String, String)>,
    /// target-role of it or of what it is in, where somebody set it.
    pub(crate) target_role: Option<Meta>,
    /// The meta attribute of it or of what it is in that takes it out of the cluster's hands: `is-managed`, `maintenance`.
    pub(crate) unmanaged: Option<Meta>,
}

/// What a meta attribute says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The element that has it.
    pub(crate) of: String,
    /// Its value; its name, where that is what matters.
    pub(crate) word: String,
}

/// A constraint that a command left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) id: String,
    pub(crate) resource: String,
    /// The node that asked for the move, if it is this program's.
    pub(crate) by: Option<String>,
    /// The node that it names.
    pub(crate) node: Option<String>,
    /// When it ceases to count, in seconds since 1970.
    pub(crate) until: Option<i64>,
}

/// The constraint by which a handler fence-peer of DRBD keeps the Primary role from nodes that may lack what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) id: String,
    /// The promotable clone.
    pub(crate) resource: String,
    /// The nodes that have everything.
    pub(crate) spared: Vec<String>,
}

/// The word of a primary that acknowledged commits without a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacks {
    pub(crate) node: String,
    /// The resource of postgresql.
    pub(crate) resource: String,
    /// The primary.
    pub(crate) author: String,
}

/// The mark of `hvmail_make_secondary --stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) last_primary: String,
}

impl Configuration {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let root = Element::parse(text).context("cibadmin did not answer in XML")?;
        let mut found = Self::default();
        for resources in root.all("resources") {
            for child in &resources.children {
                gather(child, &Resource::default(), &mut found.resources);
            }
        }
        mark_followers(&ties(&root), &mut found.resources);
        let properties = root.all("cluster_property_set").into_iter();
        found.trusts_unseen = properties.filter_map(|set| pair(set, "startup-fencing")).any(|value| value == "false");
        found.leftovers = root.all("rsc_location").into_iter().filter_map(leftover).collect();
        found.fences = root.all("rsc_location").into_iter().filter_map(fence).collect();
        let mut lacks = Vec::new();
        for database in found.all_of_agent("postgresql") {
            let attribute = format!("{}-lacks", database.id);
            let nodes = root.all("nodes").into_iter().flat_map(|nodes| nodes.children("node"));
            let word = |node: &Element| {
                let author = node.children("instance_attributes").find_map(|set| pair(set, &attribute))?;
                Some(Lacks { node: node.get("uname").to_owned(), resource: database.id.clone(), author })
            };
            lacks.extend(nodes.filter_map(word));
        }
        found.lacks = lacks;
        let marks = root.all("meta_attributes").into_iter().filter(|set| set.get("id").starts_with(STOP));
        let last = |set: &Element| pair(set, LAST_PRIMARY).map(|last_primary| Stopped { last_primary });
        found.stopped = marks.map(|set| last(set).unwrap_or_default()).next();
        Ok(found)
    }

    /// The promotable primitives that make a node Primary.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|one| one.promotable.is_some())
    }

    /// These, and what has to run where they are promoted, such as a file system.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|one| one.promotable.is_some() || one.follows)
    }

    /// The first resource of one of greenarrow's agents.
    pub(crate) fn of_agent(&self, kind: &str) -> Option<&Resource> {
        self.all_of_agent(kind).next()
    }

    /// All of them: of primary-ips there may be several, each with a file of its own.
    pub(crate) fn all_of_agent(&self, kind: &str) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |one| one.agent.strip_prefix("ocf:greenarrow:") == Some(kind))
    }

    pub(crate) fn own_moves(&self) -> impl Iterator<Item = &Leftover> {
        self.leftovers.iter().filter(|one| one.id.starts_with(MOVE))
    }
}

impl Fence {
    /// Whether it keeps this node from being promoted. DRBD's names of nodes need not be of the same case.
    pub(crate) fn rejects(&self, node: &str) -> bool {
        !self.spared.iter().any(|one| one.eq_ignore_ascii_case(node))
    }
}

impl Resource {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is that one, or in it.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.id == name || self.inside.iter().any(|one| one == name)
    }
}

fn pair(set: &Element, name: &str) -> Option<String> {
    set.children("nvpair").find(|one| one.get("name") == name)?.text("value")
}

/// A meta attribute of an element itself, not of this program's marks.
fn meta(element: &Element, name: &str) -> Option<String> {
    let own = |set: &&Element| !set.get("id").starts_with(STOP);
    element.children("meta_attributes").filter(own).find_map(|set| pair(set, name))
}

/// `outer` has what an element inherits.
fn gather(element: &Element, outer: &Resource, found: &mut Vec<Resource>) {
    let is = |name: &str, words: [&str; 5]| {
        meta(element, name).is_some_and(|value| words.contains(&value.to_lowercase().as_str()))
    };
    // crm_str_to_boolean of Pacemaker.
    let (yes, no) = (["true", "yes", "on", "1", "y"], ["false", "no", "off", "0", "n"]);
    let unmanaged = [("is-managed", no), ("maintenance", yes)].into_iter().find(|(name, words)| is(name, *words));
    let told = |word: String| Meta { of: element.get("id").to_owned(), word };
    let own = Resource {
        inside: outer.inside.clone(),
        promotable: outer.promotable.clone(),
        target_role: meta(element, "target-role").map(told).or_else(|| outer.target_role.clone()),
        unmanaged: unmanaged.map(|(name, _)| told(name.to_owned())).or_else(|| outer.unmanaged.clone()),
        ..Resource::default()
    };
    match element.name.as_str() {
        "primitive" => found.push(primitive(element, own)),
        "clone" | "group" | "master" | "bundle" => {
            let promotable = is("promotable", yes) || element.name == "master";
            let promotable = promotable.then(|| element.get("id").to_owned()).or_else(|| own.promotable.clone());
            let inside = own.inside.iter().cloned().chain([element.get("id").to_owned()]).collect();
            let own = Resource { inside, promotable, ..own };
            for child in &element.children {
                gather(child, &own, found);
            }
        }
        _ => {}
    }
}

fn primitive(element: &Element, own: Resource) -> Resource {
    let kind = [element.get("class"), element.get("provider"), element.get("type")];
    let pairs = element.at(&["instance_attributes", "nvpair"]);
    Resource {
        id: element.get("id").to_owned(),
        agent: kind.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":"),
        parameters: pairs.into_iter().map(|one| (one.get("name").to_owned(), one.get("value").to_owned())).collect(),
        ..own
    }
}

/// What is to be together, by each constraint that is not only a wish.
fn ties(root: &Element) -> Vec<Vec<String>> {
    let strict = |one: &&Element| ["", "INFINITY", "+INFINITY"].contains(&one.get("score"));
    let names = |one: &Element| -> Vec<String> {
        let sets = one.all("resource_ref").into_iter().map(|one| one.get("id"));
        [one.get("rsc"), one.get("with-rsc")].into_iter().chain(sets).map(str::to_owned).collect()
    };
    root.all("rsc_colocation").into_iter().filter(strict).map(names).collect()
}

/// Which of two colocated ones depends on the other does not matter: where one may not be, the other is not or is of no use.
fn mark_followers(ties: &[Vec<String>], resources: &mut [Resource]) {
    let own = |one: &Resource| one.inside.iter().cloned().chain([one.id.clone()]).collect::<Vec<_>>();
    let mut names: Vec<_> = resources.iter().filter(|one| one.promotable.is_some()).flat_map(own).collect();
    loop {
        names.sort_unstable();
        names.dedup();
        let before = names.clone();
        let touched = ties.iter().filter(|tie| tie.iter().any(|one| names.contains(one))).flatten();
        let mut more: Vec<_> = touched.filter(|one| !one.is_empty() && !names.contains(one)).cloned().collect();
        names.append(&mut more);
        for one in &mut *resources {
            if names.iter().any(|name| one.is_of(name)) {
                one.follows = one.promotable.is_none();
                names.extend(own(one));
            }
        }
        names.sort_unstable();
        names.dedup();
        if names == before {
            return;
        }
    }
}

/// `cli-ban-` and `cli-prefer-` are what crm_resource, crm and pcs call the constraints of a move or a ban.
fn leftover(location: &Element) -> Option<Leftover> {
    let id = location.get("id");
    if !["cli-ban-", "cli-prefer-", MOVE].iter().any(|prefix| id.starts_with(prefix)) {
        return None;
    }
    let resource = location.get("rsc");
    let rest = id.strip_prefix(MOVE);
    let by = rest.and_then(|rest| rest.strip_suffix(resource)?.strip_suffix('-')).map(str::to_owned);
    let end = location.all("date_expression").into_iter().find_map(|one| one.text("end"));
    let until =
        end.and_then(|end| end.replace(' ', "T").parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second);
    let named = location.all("expression").into_iter().find(|one| one.get("attribute") == "#uname");
    let node = named.and_then(|one| one.text("value")).or_else(|| location.text("node"));
    Some(Leftover { id: id.to_owned(), resource: resource.to_owned(), by, node, until })
}

/// As greenarrow-drbd-fence and crm-fence-peer.9.sh write it. Whom a rule with another attribute than the name means is not known
/// here.
fn fence(location: &Element) -> Option<Fence> {
    let rule = location.children("rule").find(|rule| rule.get("score") == "-INFINITY")?;
    let by_name = |one: &&Element| one.get("attribute") == "#uname" && one.get("operation") == "ne";
    let expressions = location.all("expression");
    let named = !expressions.is_empty() && expressions.iter().all(by_name);
    let of_drbd = location.get("id").starts_with(FENCE) && ["Promoted", "Master"].contains(&rule.get("role"));
    (named && of_drbd).then(|| Fence {
        id: location.get("id").to_owned(),
        resource: location.get("rsc").to_owned(),
        spared: expressions.iter().map(|one| one.get("value").to_owned()).collect(),
    })
}

/// The constraints that move the Primary role of `clones`, and what is tied to it, `plain`, to `target`: a preference that ends by
/// itself, so that it harms nobody when this program does not live to take it away. Whoever prefers forbids nothing: if the
/// target dies in between, Pacemaker goes elsewhere.
pub(crate) fn preference(by: &str, target: &str, clones: &[&str], plain: &[&str], until: jiff::Timestamp) -> String {
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let one = |resource: &str, role: &str| {
        let (id, rsc, node) = (escaped(&format!("{MOVE}{by}-{resource}")), escaped(resource), escaped(target));
        format!(
            "<rsc_location id=\"{id}\" rsc=\"{rsc}\"><rule id=\"{id}-rule\"{role} score=\"INFINITY\" \
             boolean-op=\"and\"><expression id=\"{id}-node\" attribute=\"#uname\" operation=\"eq\" value=\"{node}\"/>\
             <date_expression id=\"{id}-until\" operation=\"lt\" end=\"{until}\"/></rule></rsc_location>"
        )
    };
    // "Promoted" in a rule is text to every schema (rule-2.9.rng); Pacemaker 2.1 and 3 know both names.
    let roles = clones.iter().map(|clone| one(clone, " role=\"Promoted\""));
    format!("<constraints>{}</constraints>", roles.chain(plain.iter().map(|plain| one(plain, ""))).collect::<String>())
}

/// The marks that let no node be Primary until somebody says so.
pub(crate) fn stop_marks(last_primary: &str, clones: &[&str]) -> String {
    let one = |clone: &&str| {
        let (id, rsc, node) = (escaped(&format!("{STOP}{clone}")), escaped(clone), escaped(last_primary));
        // Of several sets the one with the highest score counts, whatever else sets target-role.
        format!(
            "<clone id=\"{rsc}\"><meta_attributes id=\"{id}\" score=\"INFINITY\"><nvpair id=\"{id}-target-role\" \
             name=\"target-role\" value=\"Unpromoted\"/><nvpair id=\"{id}-primary\" name=\"{LAST_PRIMARY}\" \
             value=\"{node}\"/></meta_attributes></clone>"
        )
    };
    format!("<resources>{}</resources>", clones.iter().map(one).collect::<String>())
}

#[cfg(test)]
#[path = "cib_tests.rs"]
mod tests;
