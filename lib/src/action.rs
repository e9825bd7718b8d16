//! The actions of an agent, and how its meta-data announces them.

use std::time::Duration;

/// What Pacemaker, ocf-tester or a person may ask of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make the resource active; in a promotable clone: unpromoted.
    Start,
    /// Make it inactive, and prove it.
    Stop,
    /// Say what it is.
    Monitor,
    /// From unpromoted to promoted.
    Promote,
    /// From promoted to unpromoted.
    Demote,
    /// Hear what Pacemaker does or did to the other instances.
    Notify,
    /// Take up what changed outside the parameters, such as a file.
    Reload,
    /// Take up changed `reloadable` parameters.
    ReloadAgent,
    /// Check the parameters, and at level 10 the node.
    ValidateAll,
    /// Describe the agent.
    MetaData,
    /// Go on with work that outlives the action which began it; asked for by this program only.
    Background,
}

/// Each with its name and what a person reads about it.
const TABLE: &[(Action, &str, &str)] = &[
    (Action::Start, "start", "Makes the resource active; in a promotable clone: unpromoted."),
    (Action::Stop, "stop", "Makes the resource inactive, and proves it."),
    (Action::Monitor, "monitor", "Says in which state the resource is."),
    (Action::Promote, "promote", "Promotes an unpromoted instance."),
    (Action::Demote, "demote", "Demotes a promoted instance."),
    (Action::Notify, "notify", "Hears what Pacemaker does to the other instances of a clone."),
    (Action::Reload, "reload", "Takes up what has changed outside the parameters, such as a file."),
    (Action::ReloadAgent, "reload-agent", "Takes up changed parameters, those that are reloadable."),
    (Action::ValidateAll, "validate-all", "Checks the parameters, and at check level 10 the node too."),
    (Action::MetaData, "meta-data", "Prints the description of the agent in XML."),
    (Action::Background, "background", "Goes on with work that outlives the action which began it."),
];

impl Action {
    /// The action of that name; the names are those of OCF 1.1.
    pub fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, known, _)| *known == name).map(|(action, ..)| *action)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.line().1
    }

    /// What it does, as a sentence.
    pub(crate) fn purpose(self) -> &'static str {
        self.line().2
    }

    fn line(self) -> &'static (Self, &'static str, &'static str) {
        TABLE.iter().find(|(action, ..)| *action == self).expect("every action has its line in the table")
    }

    /// Whether two of these for one instance must never run at the same time.
    pub(crate) fn changes_the_resource(self) -> bool {
        use Action::{Demote, Promote, Reload, ReloadAgent, Start, Stop};
        matches!(self, Start | Stop | Promote | Demote | Reload | ReloadAgent)
    }

    /// Whether it must be carried out even with parameters that are wrong: what is up has to come down, and a slip of
    /// the pen in a running resource's definition must not make its monitor, or its reload-agent, fail a healthy server.
    pub(crate) fn forgives_parameters(self) -> bool {
        matches!(self, Self::Stop | Self::Demote | Self::Notify | Self::Monitor | Self::ReloadAgent)
    }
}

/// One line of the meta-data's `<actions>`.
#[derive(Debug, Clone, Copy)]
pub struct Advertised {
    /// Which action.
    pub action: Action,
    /// How long it may take, in seconds; also its limit when nothing else says.
    pub timeout: u32,
    /// For monitor: how often, in seconds.
    pub interval: Option<u32>,
    /// For monitor: `Promoted` or `Unpromoted`, when the line is for one role only.
    pub role: Option<&'static str>,
    /// For monitor and validate-all: the check level.
    pub depth: Option<u32>,
}

impl Advertised {
    /// A line with a timeout in seconds and nothing else.
    pub const fn new(action: Action, timeout: u32) -> Self {
        Self { action, timeout, interval: None, role: None, depth: None }
    }

    /// The same line with a check level.
    #[must_use]
    pub const fn depth(self, depth: u32) -> Self {
        Self { depth: Some(depth), ..self }
    }

    /// The same line with an interval in seconds and, where it is for one role only, that role.
    #[must_use]
    pub const fn every(self, interval: u32, role: Option<&'static str>) -> Self {
        Self { interval: Some(interval), role, ..self }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_action_and_back() {
        for (action, name, purpose) in TABLE {
            assert_eq!(Action::named(name), Some(*action));
            assert_eq!((action.name(), action.purpose()), (*name, *purpose));
        }
        for unknown in ["", "status", "migrate_to", "Start", "start "] {
            assert_eq!(Action::named(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn what_takes_a_resource_down_or_only_looks_does_not_ask_for_right_parameters() {
        assert!(Action::Stop.forgives_parameters() && Action::Demote.forgives_parameters());
        assert!(!Action::Start.forgives_parameters() && !Action::Promote.forgives_parameters());
    }
}
