//! What the agents installed on this node say themselves, by hand and in words.

use std::path::Path;
use std::time::Duration;

use ocf::{Deadline, Program};

use crate::cib::Resource;

/// Where Pacemaker has them.
const DIRECTORY: &str = "/usr/lib/ocf/resource.d/greenarrow";
const PATIENCE: Duration = Duration::from_secs(10);

/// What one agent found on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) resource: String,
    /// Its exit status.
    pub(crate) status: Option<i32>,
    /// What it said.
    pub(crate) text: String,
}

pub(crate) fn is_installed(kind: &str) -> bool {
    Path::new(DIRECTORY).join(kind).exists()
}

/// Asks the agent of a resource, if it is one of greenarrow's.
pub(crate) fn ask(resource: &Resource, node: &str) -> Option<Word> {
    act(resource, node, "monitor", &[])
}

/// The same, and the agents that ask others ask them as well: for a second primary, and for another host with an address of
/// the pair. greenarrow_status, which the services' agent would run, tells of this node only and takes its time.
pub(crate) fn ask_thoroughly(resource: &Resource, node: &str) -> Option<Word> {
    let asks = ["ocf:greenarrow:postgresql", "ocf:greenarrow:primary-ips"].contains(&resource.agent.as_str());
    act(resource, node, "monitor", if asks { &[("OCF_CHECK_LEVEL", "10")] } else { &[] })
}

/// The same with another action, and with variables that only that one knows.
pub(crate) fn act(resource: &Resource, node: &str, action: &str, variables: &[(&str, &str)]) -> Option<Word> {
    let kind = resource.agent.strip_prefix("ocf:greenarrow:")?;
    if kind.contains('/') || kind.starts_with('.') {
        return None;
    }
    // As Pacemaker's probe: that changes nothing and tells the cluster nothing.
    let milliseconds = PATIENCE.as_millis().to_string();
    let fixed = [
        ("OCF_ROOT", "/usr/lib/ocf"),
        ("OCF_RESOURCE_INSTANCE", &resource.id),
        ("OCF_RESOURCE_PROVIDER", "greenarrow"),
        ("OCF_RESOURCE_TYPE", kind),
        ("OCF_OUTPUT_FORMAT", "text"),
        ("OCF_RESKEY_crm_feature_set", "3.16.1"),
        ("OCF_RESKEY_CRM_meta_interval", "0"),
        ("OCF_RESKEY_CRM_meta_on_node", node),
        ("OCF_RESKEY_CRM_meta_timeout", &milliseconds),
        ("HA_LOGFACILITY", "none"),
    ];
    let program = Program::new(&format!("{DIRECTORY}/{kind}")).args([action]);
    let given = fixed.into_iter().chain(variables.iter().copied());
    let program = given.fold(program, |program, (name, value)| program.variable(name, value));
    let program = match resource.promotable {
        Some(_) => program.variable("OCF_RESKEY_CRM_meta_promoted_max", "1"),
        None => program,
    };
    let own = resource.parameters.iter().filter(|(name, _)| name != "trace_ra");
    let program = own.fold(program, |program, (name, value)| program.variable(&format!("OCF_RESKEY_{name}"), value));
    Some(match program.run(Deadline::after(PATIENCE)) {
        Err(error) => Word { resource: resource.id.clone(), status: None, text: format!("{error:#}") },
        Ok(output) => {
            let reason = output.stderr.lines().rev().find_map(|line| line.strip_prefix("ocf-exit-reason:"));
            let text = reason.or(output.stdout.lines().next()).unwrap_or_default().trim().to_owned();
            Word { resource: resource.id.clone(), status: output.status.code(), text }
        }
    })
}

impl Word {
    /// Running, unpromoted or promoted, and nothing to say against it.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(self.status, Some(0 | 8))
    }

    /// Promoted, and not alone: the words of ocf:greenarrow:postgresql and ocf:greenarrow:primary-ips.
    pub(crate) fn sees_another(&self) -> bool {
        ["accepts writes too", " is in use by "].iter().any(|words| self.text.contains(words))
    }
}
