//! What a notify action is told, typed, for both namings of the roles.

use crate::environment::Environment;

/// Before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Pacemaker is about to do it.
    Pre,
    /// Pacemaker has done it.
    Post,
}

/// What is done to the instances the notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Instances are started.
    Start,
    /// Instances are stopped.
    Stop,
    /// Instances are promoted.
    Promote,
    /// Instances are demoted.
    Demote,
}

/// An instance of the clone and the node it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The resource's name, with its number where the clone has numbers.
    pub resource: String,
    /// The node's name.
    pub node: String,
}

/// One notification (Pacemaker Explained, "Clone Resource Agent Requirements").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Before or after.
    pub when: When,
    /// What is done.
    pub operation: Operation,
    /// Instances in the promoted role before the transition.
    pub promoted: Vec<Instance>,
    /// Instances in the unpromoted role before the transition.
    pub unpromoted: Vec<Instance>,
    /// Instances to be started.
    pub start: Vec<Instance>,
    /// Instances to be stopped.
    pub stop: Vec<Instance>,
    /// Instances to be promoted.
    pub promote: Vec<Instance>,
    /// Instances to be demoted.
    pub demote: Vec<Instance>,
}

impl Notification {
    /// The notification in the environment. None when there is none, as in ocf-tester, or when it is of a kind this
    /// library does not know: Pacemaker ignores a notify action's result, so there is nobody to complain to.
    pub fn read(environment: &Environment) -> Option<Self> {
        let when = match environment.meta("notify_type")? {
            "pre" => When::Pre,
            "post" => When::Post,
            _ => return None,
        };
        let operation = match environment.meta("notify_operation")? {
            "start" => Operation::Start,
            "stop" => Operation::Stop,
            "promote" => Operation::Promote,
            "demote" => Operation::Demote,
            _ => return None,
        };
        let list = |names: &[&str]| instances(environment, names);
        Some(Self {
            when,
            operation,
            promoted: list(&["promoted", "master"]),
            unpromoted: list(&["unpromoted", "slave"]),
            start: list(&["start"]),
            stop: list(&["stop"]),
            promote: list(&["promote"]),
            demote: list(&["demote"]),
        })
    }
}

impl Notification {
    /// The nodes that have an instance once this transition has stopped and started what it is to. Pacemaker tells that to
    /// every action of a clone with notify=true, not to notify alone; without, the list is empty.
    pub fn nodes_after(environment: &Environment) -> Vec<String> {
        let nodes = |names: &[&str]| instances(environment, names).into_iter().map(|instance| instance.node);
        let stopped: Vec<String> = nodes(&["stop"]).collect();
        let active = nodes(&["promoted", "master"]).chain(nodes(&["unpromoted", "slave"]));
        let mut left: Vec<String> = active.filter(|node| !stopped.contains(node)).chain(nodes(&["start"])).collect();
        left.sort();
        left.dedup();
        left
    }

    /// The nodes that have a promoted instance, as far as it is neither demoted nor stopped in this transition; told like
    /// [`Self::nodes_after`].
    pub fn promoted_after(environment: &Environment) -> Vec<String> {
        let nodes = |names: &[&str]| instances(environment, names).into_iter().map(|instance| instance.node);
        let ended: Vec<String> = nodes(&["stop"]).chain(nodes(&["demote"])).collect();
        nodes(&["promoted", "master"]).filter(|node| !ended.contains(node)).collect()
    }
}

/// The instances of the first of these lists that is set: Pacemaker 2.1 sets both namings, 2.0 the old, 3 the new one.
/// Resources and nodes come as two lists of equal length, divided by blanks; an empty list is a single blank.
fn instances(environment: &Environment, names: &[&str]) -> Vec<Instance> {
    let words = |kind: &str| {
        let found = names.iter().find_map(|name| environment.meta(&format!("notify_{name}_{kind}")));
        found.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let pairs = words("resource").into_iter().zip(words("uname"));
    pairs.map(|(resource, node)| Instance { resource, node }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Option<Notification> {
        let full = |name: &str| format!("OCF_RESKEY_CRM_meta_notify_{name}").into();
        Notification::read(&Environment::from_variables(pairs.iter().map(|(name, value)| (full(name), value.into()))))
    }

    fn instance(resource: &str, node: &str) -> Instance {
        Instance { resource: resource.into(), node: node.into() }
    }

    #[test]
    fn without_variables_there_is_no_notification() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("type", "pre"), ("operation", "dance")]), None);
        assert_eq!(read(&[("type", "sideways"), ("operation", "start")]), None);
    }

    #[test]
    fn the_new_names_come_first_and_the_old_ones_count() {
        let kind = [("type", "pre"), ("operation", "promote")];
        let old = [("master_resource", "ips"), ("master_uname", "a"), ("slave_resource", "ips"), ("slave_uname", "b")];
        let found = read(&[kind.as_slice(), &old].concat()).unwrap();
        assert_eq!((found.when, found.operation), (When::Pre, Operation::Promote));
        assert_eq!(found.promoted, [instance("ips", "a")]);
        assert_eq!(found.unpromoted, [instance("ips", "b")]);
        let new = [("promoted_resource", "ips"), ("promoted_uname", "c")];
        assert_eq!(read(&[kind.as_slice(), &old, &new].concat()).unwrap().promoted, [instance("ips", "c")]);
    }

    #[test]
    fn the_nodes_after_a_transition_are_those_not_stopped_and_those_started() {
        let full = |(name, value): (&str, &str)| (format!("OCF_RESKEY_CRM_meta_notify_{name}").into(), value.into());
        let lists = [
            ("promoted_resource", "p"),
            ("promoted_uname", "a"),
            ("unpromoted_resource", "p p"),
            ("unpromoted_uname", "b c"),
            ("stop_resource", "p p"),
            ("stop_uname", "a c"),
            ("start_resource", "p"),
            ("start_uname", "c"),
        ];
        let nodes = Notification::nodes_after(&Environment::from_variables(lists.map(full)));
        assert_eq!(nodes, ["b", "c"]);
        let promoted = [("promoted_resource", "p p p"), ("promoted_uname", "a b c"), ("demote_resource", "p")];
        let ended = [("demote_uname", "b"), ("stop_resource", "p"), ("stop_uname", "c")];
        let environment = Environment::from_variables(promoted.into_iter().chain(ended).map(full));
        assert_eq!(Notification::promoted_after(&environment), ["a"]);
        assert_eq!(Notification::nodes_after(&Environment::default()), Vec::<String>::new());
    }

    #[test]
    fn an_empty_list_is_a_single_blank() {
        let found = read(&[("type", "post"), ("operation", "stop"), ("stop_resource", " "), ("stop_uname", " ")]);
        assert_eq!(found.unwrap().stop, []);
    }

    #[test]
    fn lists_keep_their_order_and_a_lone_resource_is_dropped() {
        let pairs =
            [("type", "pre"), ("operation", "start"), ("start_resource", "p:0 p:1 p:2"), ("start_uname", "a b")];
        assert_eq!(read(&pairs).unwrap().start, [instance("p:0", "a"), instance("p:1", "b")]);
    }
}
