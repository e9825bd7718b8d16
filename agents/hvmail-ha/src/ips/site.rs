//! What Pacemaker knows about the lists.

use crate::cib::Resource;
use crate::tools;

/// The agent.
const KIND: &str = "primary-ips";
/// The default of its parameter `ip_file`.
const USUAL_PATH: &str = "/etc/hvmail_primary_ips";

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
    pub(crate) fn take() -> Self {
        let mut unseen = Vec::new();
        let here = tools::own_name();
        let resource = tools::configuration().map(|all| all.of_agent(KIND).cloned());
        let resource = resource.unwrap_or_else(|error| {
            unseen.push(format!("{error:#}"));
            None
        });
        let mut site = Self { here, ..Self::default() };
        if resource.is_none() && unseen.is_empty() {
            unseen.push(format!("no resource of ocf:greenarrow:{KIND} is configured: nobody tells a list"));
        }
        if let Some(resource) = &resource {
            match tools::attribute(&attribute(resource)) {
                Ok(lists) => site.lists = lists,
                Err(error) => unseen.push(format!("{}: {error:#}", attribute(resource))),
            }
        }
        site.resource = resource.unwrap_or_else(unconfigured);
        match tools::state() {
            Err(error) if unseen.is_empty() => unseen.push(format!("{error:#}")),
            Err(_) => {}
            Ok(state) => {
                let others = state.nodes.iter().filter(|node| node.name != site.here);
                let other = |node: &crate::crm_mon::Node| Other {
                    name: node.name.clone(),
                    online: node.online && !node.unclean && !node.pending,
                };
                site.others = others.map(other).collect();
                let role = if site.resource.promotable.is_some() { "Promoted" } else { "Started" };
                let holds = state.nodes_in_role(&site.resource.id, role).iter().any(|node| **node == *site.here);
                site.holder = (site.is_configured() && !state.changing(&site.resource.id)).then_some(holds);
            }
        }
        Self { unseen, ..site }
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
    pub(crate) fn ask_again(&mut self) -> anyhow::Result<()> {
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
