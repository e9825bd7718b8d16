//! The agents of this package by their own meta-data, which the package carries: the programs are of the same version.

use anyhow::{Context, Result, bail};

use crate::xml::Element;

/// Name and meta-data, as `metadata` has them.
const AGENTS: [(&str, &str); 4] = [
    ("drbd", include_str!("../../../../metadata/drbd.xml")),
    ("postgresql", include_str!("../../../../metadata/postgresql.xml")),
    ("primary-ips", include_str!("../../../../metadata/primary-ips.xml")),
    ("services", include_str!("../../../../metadata/services.xml")),
];

/// These are no operations of a resource; `reload` is what older Pacemakers called reload-agent, and none calls it now.
const NOT_CONFIGURED: [&str; 3] = ["meta-data", "validate-all", "reload"];

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) name: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) operations: Vec<Operation>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
    /// It tells one resource of the agent from another (unique-group).
    pub(crate) distinguishes: bool,
}

/// An action with its times, as text with a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) interval: String,
    pub(crate) timeout: String,
    pub(crate) role: Option<String>,
    /// The check level, where it is not 0.
    pub(crate) level: Option<String>,
}

impl Operation {
    pub(crate) fn new(name: &str, interval: &str, timeout: &str) -> Self {
        let [name, interval, timeout] = [name, interval, timeout].map(str::to_owned);
        Self { name, interval, timeout, ..Self::default() }
    }
}

impl Agent {
    /// The agent of that name.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let Some((name, text)) = AGENTS.into_iter().find(|(one, _)| *one == name) else {
            bail!("{name:?} is none of the agents {}", AGENTS.map(|(one, _)| one).join(", "));
        };
        let root = Element::parse(text).with_context(|| format!("the meta-data of {name}"))?;
        let parameters = root.at(&["parameters", "parameter"]).into_iter().map(|one| Parameter {
            name: one.get("name").to_owned(),
            default: one.children("content").find_map(|content| content.text("default")),
            distinguishes: one.text("unique-group").is_some(),
        });
        let actions = root.at(&["actions", "action"]).into_iter();
        let operations = actions.filter(|one| !NOT_CONFIGURED.contains(&one.get("name"))).map(|one| Operation {
            name: one.get("name").to_owned(),
            interval: one.text("interval").unwrap_or_else(|| "0s".to_owned()),
            timeout: one.get("timeout").to_owned(),
            role: one.text("role"),
            level: one.text("depth").filter(|depth| depth != "0"),
        });
        Ok(Self { name, parameters: parameters.collect(), operations: operations.collect() })
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|one| one.name == name)
    }

    pub(crate) fn names() -> [&'static str; 4] {
        AGENTS.map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_is_read_with_its_operations() {
        for name in Agent::names() {
            let agent = Agent::of(name).unwrap();
            assert!(agent.parameters.iter().any(|one| one.distinguishes), "{name}");
            for action in ["start", "stop", "promote", "demote", "reload-agent"] {
                let found = agent.operations.iter().find(|one| one.name == action);
                assert!(found.is_some_and(|one| one.interval == "0s" && one.timeout.ends_with('s')), "{name} {action}");
            }
            let monitors: Vec<_> = agent.operations.iter().filter(|one| one.name == "monitor").collect();
            assert!(monitors.len() >= 2 && monitors.iter().all(|one| one.interval != "0s" && one.role.is_some()));
            assert!(agent.operations.iter().all(|one| !NOT_CONFIGURED.contains(&one.name.as_str())));
        }
        let services = Agent::of("services").unwrap();
        assert_eq!(services.parameter("pattern").unwrap().default.as_deref(), Some("hvmail-*"));
        assert!(services.operations.contains(&Operation::new("stop", "0s", "300s")));
        assert!(Agent::of("IPaddr2").is_err());
    }
}
