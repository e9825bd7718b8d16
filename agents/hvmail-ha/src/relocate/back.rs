//! What was begun is put back: the node that had the role before has it again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ocf::Deadline;

use super::{Ending, SPARE, Work, has, is_primary, nobody, owned, stays};
use crate::cib::{preference, stop_marks};
use crate::crm_mon::Monitored;
use crate::picture::{Picture, Role};
use crate::{preflight, serve, tools};

/// How long the cluster may take to get back to where it was, and again where it has to be told to.
const BACK: Duration = Duration::from_secs(90);

/// So many looks find it as it was before that is believed: what the cluster has begun may be seen at the next one only.
const STEADY: u32 = 3;

/// Who had the role when the command began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    node: String,
    /// What was promoted there.
    held: Vec<String>,
    /// Whether it answered.
    served: bool,
}

/// How things stand while everything is being put back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    /// As it was.
    Back,
    /// Another node is Primary, wholly.
    Elsewhere(String),
    /// The node that was to be Primary has a part of the role.
    Partly,
    /// The cluster is at it.
    Underway,
}

impl Before {
    pub(super) fn of(picture: &Picture) -> Option<Self> {
        let has = |node: &&str| matches!(picture.role(node), Role::Primary | Role::Partly);
        let node = picture.nodes().into_iter().find(has)?;
        let promoted = |one: &&str| picture.instance(one, node).is_some_and(|one| one.role == "Promoted");
        Some(Self {
            node: node.to_owned(),
            held: owned(&picture.roles().into_iter().filter(promoted).collect::<Vec<_>>()),
            served: picture.role(node) == Role::Primary
                && serve::ask(&picture.configuration, &picture.here, node).is_ok(),
        })
    }

    fn is_back(&self, state: &Monitored, roles: &[String]) -> bool {
        let quiet = !roles.iter().any(|one| state.changing(one));
        quiet && self.held.iter().all(|one| has(state, one, &self.node))
    }
}

fn stand(state: &Monitored, roles: &[String], before: Option<&Before>, target: Option<&str>) -> Stand {
    let back = before.map_or_else(|| nobody(state, roles), |before| before.is_back(state, roles));
    if back {
        return Stand::Back;
    }
    if let Some(node) = state.nodes.iter().find(|node| is_primary(state, roles, &node.name)) {
        return Stand::Elsewhere(node.name.clone());
    }
    let promoted = |one: &String| target.is_some_and(|target| state.nodes_in_role(one, "Promoted").contains(&target));
    if roles.iter().any(promoted) { Stand::Partly } else { Stand::Underway }
}

/// What keeps a node from having the role now, in words; empty if nothing does.
fn hindrances(node: &str) -> String {
    match Picture::take() {
        Err(error) => format!("{error:#}"),
        Ok(picture) => {
            let told = preflight::told(&picture, node, &[]).into_iter();
            told.map(|one| format!("{} ({})", one.fact, one.remedy)).collect::<Vec<_>>().join("; ")
        }
    }
}

impl Work<'_> {
    /// The cluster goes back by itself once nothing asks for anything else, unless the other node was promoted meanwhile:
    /// what is promoted stays so. Then the role is asked back for the node that had it, if that one could take over now.
    pub(super) fn put_back(&mut self, target: Option<&str>, why: &str, lifted: bool) -> Ending {
        self.say(&format!("{why}: putting back"));
        self.deadline = Deadline::after(BACK);
        self.signals = None;
        // As long as nothing forbids it, Pacemaker tries again and again to promote what has failed.
        self.give_back();
        if lifted {
            return self.mark_again(why);
        }
        let (roles, before, picture) = (owned(&self.picture.roles()), self.before.clone(), self.picture);
        let answers = |node: &str| serve::ask(&picture.configuration, &picture.here, node).is_ok();
        let (mut hindered, mut looks, mut last) = (String::new(), 0, Stand::Underway);
        let found = self.watch(|state| {
            let stand = stand(state, &roles, before.as_ref(), target);
            (last, hindered) = (stand.clone(), String::new());
            looks = if stand == Stand::Back { looks + 1 } else { 0 };
            match (&stand, &before) {
                (Stand::Back, Some(before)) if before.served && !answers(&before.node) => return None,
                (Stand::Back, _) => return (looks >= STEADY).then_some(stand),
                (Stand::Elsewhere(node), _) if answers(node) => return Some(stand),
                (Stand::Elsewhere(_) | Stand::Partly, Some(before)) => hindered = hindrances(&before.node),
                (Stand::Underway, _) | (Stand::Elsewhere(_) | Stand::Partly, None) => return None,
            }
            hindered.is_empty().then_some(Stand::Partly)
        });
        match (found, before) {
            (Ok(Stand::Back), None) => Ending::PutBack(format!("{why}. No node is Primary, as before")),
            (Ok(Stand::Back), Some(before)) => Ending::PutBack(as_before(why, &before)),
            (Ok(Stand::Elsewhere(node)), _) if Some(node.as_str()) == target => {
                Ending::Done(format!("{why}; {node} is Primary and serves all the same"))
            }
            (Ok(Stand::Elsewhere(node)), _) => Ending::PutBack(format!("{why}. {node} is Primary and serves")),
            (Ok(Stand::Partly | Stand::Underway), Some(before)) => self.ask_back(why, &before),
            (_, before) => Ending::Adrift(left_as_it_is(why, &last, before.as_ref(), &hindered)),
        }
    }

    /// A second move, to where the first one came from.
    fn ask_back(&mut self, why: &str, before: &Before) -> Ending {
        let (roles, picture) = (owned(&self.picture.roles()), self.picture);
        self.deadline = Deadline::after(BACK);
        let budget = SignedDuration::try_from(BACK).unwrap_or(SPARE);
        let until = Timestamp::now().saturating_add(budget + SPARE).unwrap_or(Timestamp::MAX);
        let asked =
            tools::add_constraints(&preference(&picture.here, &before.node, &self.clones(), &self.plain(), until));
        self.say(&format!("the cluster was asked to promote {} again", before.node));
        let there = |state: &Monitored| before.is_back(state, &roles);
        let answers = || serve::ask(&picture.configuration, &picture.here, &before.node).is_ok();
        let came = match asked {
            Ok(()) => self.watch(|state| (there(state) && (!before.served || answers())).then_some(())),
            Err(error) => Err(format!("{error:#}")),
        };
        if let Err(error) = tools::remove_moves(&picture.here) {
            return Ending::Adrift(format!(
                "{why}. The constraint that asks for {} again could not be taken away: {error:#}. It ceases to count at \
                 {until}; repeat the command to have it removed",
                before.node
            ));
        }
        match came {
            Ok(()) if stays(there) => Ending::PutBack(as_before(why, before)),
            Ok(()) => Ending::Adrift(format!("{why}. {} did not stay Primary: hvmail_ha status", before.node)),
            Err(error) => Ending::Adrift(format!(
                "{why}. {} was asked for again, and does not serve: {error}. hvmail_ha status shows what there is",
                before.node
            )),
        }
    }

    fn mark_again(&mut self, why: &str) -> Ending {
        let roles = owned(&self.picture.roles());
        let last = self.picture.configuration.stopped.as_ref().map(|one| one.last_primary.as_str());
        let marks = stop_marks(last.unwrap_or_default(), &self.clones());
        if let Err(error) = tools::change_resources(&marks) {
            return Ending::Adrift(format!("{why}. The mark of --stop could not be put back: {error:#}"));
        }
        match self.watch(|state| nobody(state, &roles).then_some(())) {
            Ok(()) => Ending::PutBack(format!("{why}. No node is Primary, as before")),
            Err(_) => {
                Ending::Adrift(format!("{why}. Not everything is stopped yet; hvmail_ha status shows what there is"))
            }
        }
    }
}

fn as_before(why: &str, before: &Before) -> String {
    let what = if before.served { "is Primary and serves" } else { "has what it had" };
    format!("{why}. {} {what}, as before", before.node)
}

/// What there is where nothing could be put back, and what to do.
fn left_as_it_is(why: &str, last: &Stand, before: Option<&Before>, hindered: &str) -> String {
    let what = match last {
        Stand::Back => "All is promoted where it was, and does not answer as it did".to_owned(),
        Stand::Elsewhere(node) => format!("{node} is Primary and does not serve"),
        Stand::Partly => "A part of what makes a node Primary is promoted on the new one".to_owned(),
        Stand::Underway => "No node is wholly Primary now".to_owned(),
    };
    match before {
        Some(Before { node, .. }) if !hindered.is_empty() => format!(
            "{why}. {what}, and {node} cannot take it back: {hindered}. Mend what is named, or what does not answer \
             (hvmail_ha status); the way back is then hvmail_make_primary --node {node}"
        ),
        _ => format!("{why}. {what}; hvmail_ha status shows what there is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured::state;

    fn roles() -> Vec<String> {
        ["pg", "ips", "services"].map(str::to_owned).into()
    }

    fn before() -> Before {
        Before { node: "n1".to_owned(), held: roles(), served: true }
    }

    /// n1 had the role, and these resources are promoted on n2 now.
    fn moved(resources: &[&str]) -> Monitored {
        let mut state = state("healthy");
        for one in &mut state.instances {
            let there = one.node.as_deref() == Some("n2");
            if ["Promoted", "Unpromoted"].contains(&one.role.as_str()) && resources.contains(&one.resource.as_str()) {
                one.role = if there { "Promoted" } else { "Unpromoted" }.to_owned();
            }
        }
        state
    }

    #[test]
    fn it_is_back_only_where_it_was() {
        let stand = |state: &Monitored| stand(state, &roles(), Some(&before()), Some("n2"));
        assert_eq!(stand(&state("healthy")), Stand::Back);
        assert_eq!(stand(&moved(&["pg", "ips", "services"])), Stand::Elsewhere("n2".to_owned()));
        assert_eq!(stand(&moved(&["pg"])), Stand::Partly);
        let mut failed = moved(&["pg", "ips", "services"]);
        failed.instances.iter_mut().filter(|one| one.resource == "services").for_each(|one| one.failed = true);
        assert_eq!(stand(&failed), Stand::Partly, "what has failed to be promoted is shown as promoted");
        let mut nowhere = state("healthy");
        nowhere.instances.iter_mut().for_each(|one| one.role = "Unpromoted".to_owned());
        assert_eq!(stand(&nowhere), Stand::Underway);
        let mut at_it = state("healthy");
        at_it.instances.iter_mut().for_each(|one| one.pending = Some("Demoting".to_owned()));
        assert_eq!(stand(&at_it), Stand::Underway, "the demotion of what is promoted has begun");
    }

    #[test]
    fn where_no_node_had_the_role_none_has_it_again() {
        let stand = |state: &Monitored| stand(state, &roles(), None, Some("n2"));
        let mut nowhere = state("healthy");
        nowhere.instances.iter_mut().for_each(|one| one.role = "Unpromoted".to_owned());
        assert_eq!(stand(&nowhere), Stand::Back);
        assert_eq!(stand(&moved(&["pg", "ips", "services"])), Stand::Elsewhere("n2".to_owned()));
    }

    #[test]
    fn a_node_that_had_a_part_gets_that_part_again() {
        let part = Before { held: vec!["pg".to_owned()], ..before() };
        let stand = |state: &Monitored| stand(state, &roles(), Some(&part), Some("n2"));
        assert_eq!(stand(&state("healthy")), Stand::Back);
        assert_eq!(stand(&moved(&["pg"])), Stand::Partly);
    }

    #[test]
    fn what_could_not_be_put_back_is_said_as_it_is() {
        let there = Stand::Elsewhere("n2".to_owned());
        let text = left_as_it_is("port 25: refused", &there, Some(&before()), "n1 is in standby (x)");
        let words =
            "port 25: refused. n2 is Primary and does not serve, and n1 cannot take it back: n1 is in standby (x).";
        assert!(text.starts_with(words) && text.ends_with("hvmail_make_primary --node n1"), "{text}");
        let text = left_as_it_is("why", &there, None, "");
        assert_eq!(text, "why. n2 is Primary and does not serve; hvmail_ha status shows what there is");
        assert!(left_as_it_is("why", &Stand::Underway, Some(&before()), "").contains("No node is wholly Primary"));
    }
}
