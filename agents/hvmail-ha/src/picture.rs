//! All that can be seen from this node at one moment, and what could not be.

use anyhow::Result;
use jiff::Timestamp;

use crate::agents::{self, Word};
use crate::cib::{Configuration, Resource};
use crate::crm_mon::{Instance, Monitored};
use crate::tools;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// When.
    pub(crate) at: Timestamp,
    /// The node that looked.
    pub(crate) here: String,
    pub(crate) state: Monitored,
    pub(crate) configuration: Configuration,
    /// The lists of addresses, as the instances of primary-ips tell them.
    pub(crate) lists: Vec<List>,
    /// The timeline and its ancestors by node (private attribute of a primary of postgresql).
    pub(crate) histories: Vec<(String, String)>,
    /// What the agents on this node say.
    pub(crate) words: Vec<Word>,
    /// What could not be seen, and why.
    pub(crate) unseen: Vec<String>,
}

/// The list of addresses that a resource goes by on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) resource: String,
    pub(crate) node: String,
    /// Number and digest: `COUNT:DIGEST` (private attribute RESOURCE-ip-list).
    pub(crate) told: String,
}

/// Something that is promoted on two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Twice {
    pub(crate) resource: String,
    /// Who has it.
    pub(crate) what: String,
    /// The node that has it without the cluster's order, or those of which one is it; empty if Pacemaker knows of both.
    pub(crate) there: Vec<String>,
}

/// How a node is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything is promoted here.
    Primary,
    /// Something is promoted here and something is not.
    Partly,
    /// Everything runs here unpromoted.
    Secondary,
    /// Online, and not everything runs.
    Inactive,
    /// Not in the cluster.
    Offline,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Primary => "Primary",
            Self::Partly => "partly Primary",
            Self::Secondary => "Secondary",
            Self::Inactive => "inactive",
            Self::Offline => "offline",
        }
    }
}

impl Picture {
    /// Looks. Without the cluster's state there is nothing to show; all else may be missing.
    pub(crate) fn take() -> Result<Self> {
        let mut state = tools::state()?;
        let here = tools::own_name();
        let mut unseen = Vec::new();
        let configuration = note(&mut unseen, "the configuration", tools::configuration());
        let told = |resource: &Resource, what: &str, unseen: &mut Vec<String>| {
            // Once the daemon does not answer, it is not asked again.
            if !unseen.is_empty() {
                return Vec::new();
            }
            note(unseen, &format!("{}-{what}", resource.id), tools::attribute(&format!("{}-{what}", resource.id)))
        };
        let mut lists = Vec::new();
        for one in configuration.all_of_agent("primary-ips") {
            let of_nodes = told(one, "ip-list", &mut unseen).into_iter();
            lists.extend(of_nodes.map(|(node, told)| List { resource: one.id.clone(), node, told }));
        }
        let database = configuration.of_agent("postgresql");
        let histories = database.map(|one| told(one, "history", &mut unseen)).unwrap_or_default();
        if let Some(counts) = note(&mut unseen, "the fail counts", tools::fail_counts().map(Some)) {
            state.counts = counts;
        }
        // In maintenance mode nobody else looks.
        let idle = state.maintenance || state.node(&here).is_some_and(|node| node.maintenance);
        let ask = if idle { agents::ask_thoroughly } else { agents::ask };
        let words = configuration.resources.iter().filter_map(|resource| ask(resource, &here)).collect();
        Ok(Self { at: Timestamp::now(), here, state, configuration, lists, histories, words, unseen })
    }

    /// The names of the nodes, this one first.
    pub(crate) fn nodes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.state.nodes.iter().map(|node| node.name.as_str()).collect();
        names.sort_by_key(|name| *name != self.here);
        names
    }

    /// The promotable primitives that run, or would, in the configuration's order.
    pub(crate) fn roles(&self) -> Vec<&str> {
        self.configuration.roles().map(|one| one.id.as_str()).collect()
    }

    pub(crate) fn instance(&self, resource: &str, node: &str) -> Option<&Instance> {
        let of = |one: &&Instance| one.resource == resource && one.node.as_deref() == Some(node);
        self.state.instances.iter().find(of)
    }

    /// What a node is at this moment.
    pub(crate) fn role(&self, node: &str) -> Role {
        if self.state.node(node).is_none_or(|one| !one.online || one.unclean) {
            return Role::Offline;
        }
        let roles: Vec<_> =
            self.roles().iter().map(|one| self.instance(one, node).map(|one| one.role.as_str())).collect();
        let promoted = roles.iter().filter(|role| **role == Some("Promoted")).count();
        match promoted {
            0 if !roles.is_empty() && roles.iter().all(|role| *role == Some("Unpromoted")) => Role::Secondary,
            0 => Role::Inactive,
            all if all == roles.len() => Role::Primary,
            _ => Role::Partly,
        }
    }

    /// The node that is Primary, wholly.
    pub(crate) fn primary(&self) -> Option<&str> {
        self.nodes().into_iter().find(|node| self.role(node) == Role::Primary)
    }

    /// What is promoted twice: by Pacemaker's word, or as far as the agents on this node can tell here without the cluster's
    /// order, or elsewhere beside this node. Of what is being promoted Pacemaker says so.
    pub(crate) fn twice(&self) -> Vec<Twice> {
        let here = self.here.as_str();
        let mut all = Vec::new();
        for resource in self.roles() {
            let holders = self.state.nodes_in_role(resource, "Promoted");
            let names = holders.join(" and ");
            let word = self.word(resource).filter(|_| !self.state.changing(resource));
            let by_order = holders.contains(&here);
            let runs = self.instance(resource, here).is_some();
            let (mut there, mut what) = (Vec::new(), format!("{resource} is promoted on {names}"));
            match word {
                _ if holders.len() > 1 => {}
                Some(Word { status: Some(8 | 9 | 191), text, .. }) if !by_order && runs && !holders.is_empty() => {
                    what.extend([", and on ", here, " without the cluster's order: ", text]);
                    there.push(here.to_owned());
                }
                Some(word) if by_order && word.sees_another() => {
                    what.extend([", and elsewhere too: ", &word.text]);
                    there.extend(self.nodes().into_iter().filter(|node| *node != here).map(str::to_owned));
                }
                _ => continue,
            }
            all.push(Twice { resource: resource.to_owned(), what, there });
        }
        all
    }

    pub(crate) fn word(&self, resource: &str) -> Option<&Word> {
        self.words.iter().find(|word| word.resource == resource)
    }
}

impl List {
    /// How many addresses it has.
    pub(crate) fn count(&self) -> Option<u32> {
        self.told.split(':').next()?.parse().ok()
    }
}

fn note<T: Default>(unseen: &mut Vec<String>, what: &str, seen: Result<T>) -> T {
    seen.unwrap_or_else(|error| {
        unseen.push(format!("{what}: {error:#}"));
        T::default()
    })
}
