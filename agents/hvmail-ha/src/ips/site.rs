//! What Pacemaker knows about the lists.

use anyhow::{Result, bail, ensure};

use crate::cib::{Configuration, Resource};
use crate::crm_mon::Monitored;
use crate::tools;

/// The agent.
const KIND: &str = "primary-ips";
/// The default of its parameter `ip_file`.
pub(crate) const USUAL_PATH: &str = "/etc/hvmail_primary_ips";

/// The cluster from the view of this node, as far as it answers.
#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) here: String,
    /// The resource; one without parameters where the cluster has none.
    pub(crate) resource: Resource,
    pub(crate) others: Vec<Other>,
    /// Whether the addresses are to be up on this node; None while that is not known or changes.
    pub(crate) holder: Option<bool>,
    /// Number and digest of the lists by node, as the agents have told them.
    pub(crate) lists: Vec<(String, String)>,
    /// What could not be asked, and why.
    pub(crate) unseen: Vec<String>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) name: String,
    pub(crate) online: bool,
}

impl Site {
    /// The resource of that id, or the only one; of several one has to be named.
    pub(crate) fn take(wanted: Option<&str>) -> Result<Self> {
        let mut all = Self::all(wanted)?;
        let names: Vec<_> = all.iter().map(|site| site.resource.id.clone()).collect();
        match all.pop() {
            Some(site) if all.is_empty() => Ok(site),
            _ => bail!(
                "there are several resources of ocf:greenarrow:{KIND}: --resource={}",
                names.join(" or --resource=")
            ),
        }
    }

    /// One for each resource, or for that of this id; one without parameters where there is none or nobody tells.
    pub(crate) fn all(wanted: Option<&str>) -> Result<Vec<Self>> {
        let mut unseen = Vec::new();
        let kind = format!("ocf:greenarrow:{KIND}");
        let own = |all: Configuration| all.resources.into_iter().filter(|one| one.agent == kind).collect::<Vec<_>>();
        let mut resources = match tools::configuration() {
            Ok(all) => own(all),
            Err(error) => {
                unseen.push(format!("{error:#}"));
                Vec::new()
            }
        };
        if resources.is_empty() && unseen.is_empty() {
            unseen.push(format!("no resource of {kind} is configured: nobody tells a list"));
        }
        if let Some(wanted) = wanted {
            let names: Vec<_> = resources.iter().map(|one| one.id.clone()).collect();
            resources.retain(|one| one.id == wanted);
            ensure!(!resources.is_empty(), "{wanted:?} is no resource of {kind}; there are: {}", names.join(", "));
        }
        let (here, state) = (tools::own_name(), tools::state());
        if let (Err(error), true) = (&state, unseen.is_empty()) {
            unseen.push(format!("{error:#}"));
        }
        if resources.is_empty() {
            resources.push(unconfigured());
        }
        let site = |resource| Self { here: here.clone(), resource, unseen: unseen.clone(), ..Self::default() };
        Ok(resources.into_iter().map(|resource| site(resource).asked(state.as_ref().ok())).collect())
    }

    /// With what Pacemaker and the agents tell of it.
    fn asked(mut self, state: Option<&Monitored>) -> Self {
        if self.is_configured() {
            match tools::attribute(&attribute(&self.resource)) {
                Ok(lists) => self.lists = lists,
                Err(error) => self.unseen.push(format!("{}: {error:#}", attribute(&self.resource))),
            }
        }
        let Some(state) = state else { return self };
        let others = state.nodes.iter().filter(|node| node.name != self.here);
        let other = |node: &crate::crm_mon::Node| Other {
            name: node.name.clone(),
            online: node.online && !node.unclean && !node.pending,
        };
        self.others = others.map(other).collect();
        let role = if self.resource.promotable.is_some() { "Promoted" } else { "Started" };
        let holds = state.nodes_in_role(&self.resource.id, role).iter().any(|node| **node == *self.here);
        self.holder = (self.is_configured() && !state.changing(&self.resource.id)).then_some(holds);
        self
    }

    pub(crate) fn is_configured(&self) -> bool {
        !self.resource.id.is_empty()
    }

    /// Where the list is, on every node.
    pub(crate) fn path(&self) -> &str {
        self.resource.parameter("ip_file").unwrap_or(USUAL_PATH)
    }

    /// Number and digest of a node's list, where its agent has told them.
    pub(crate) fn told(&self, node: &str) -> Option<String> {
        self.lists.iter().find(|(name, _)| name == node).map(|(_, list)| list.clone())
    }

    /// Asks anew what the agents have told.
    pub(crate) fn ask_again(&mut self) -> Result<()> {
        self.lists = tools::attribute(&attribute(&self.resource))?;
        Ok(())
    }
}

/// The node attribute in which the agent tells number and digest of its list.
fn attribute(resource: &Resource) -> String {
    format!("{}-ip-list", resource.id)
}

fn unconfigured() -> Resource {
    Resource { agent: format!("ocf:greenarrow:{KIND}"), ..Resource::default() }
}
