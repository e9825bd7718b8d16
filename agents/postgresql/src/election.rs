//! Whether this instance is the one to be promoted: no other that can be reached may have more of the log.

use ocf::{Notification, Run};

use crate::lacking;
use crate::monitor;
use crate::parameters::Settings;
use crate::peers::{Candidate, candidates, own_name};
use crate::position::{Position, Standing};
use crate::survey::Survey;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This one, and why.
    Best(String),
    /// Not this one, why, and what happens now.
    Refused(String),
}

/// Compares this instance with the other candidates of the transition.
pub(crate) fn hold(run: &Run, settings: &Settings, survey: &Survey) -> Outcome {
    let own_name = own_name(run);
    let Some(own) = monitor::position(survey) else {
        return Outcome::Refused(
            "the server's place in the log cannot be told; its history file is missing".to_owned(),
        );
    };
    let others: Vec<String> =
        Notification::nodes_after(&run.environment).into_iter().filter(|node| *node != own_name).collect();
    let told = if others.is_empty() { Vec::new() } else { candidates(run, &others, run.deadline) };
    let unheard = others.iter().filter(|node| !told.iter().any(|one| one.node == **node)).cloned().collect::<Vec<_>>();
    match decide(&own_name, &own, &told, &unheard) {
        Outcome::Best(why) => match lacking::hindrance(run, settings, &told) {
            Some(hindrance) => Outcome::Refused(hindrance),
            None => Outcome::Best(why),
        },
        refused @ Outcome::Refused(_) => match told.iter().find(|one| lacking::is_of(run, &one.node, &own_name)) {
            Some(one) => Outcome::Refused(choose(run, &own_name, &one.node)),
            None => refused,
        },
    }
}

/// Both were primaries without each other: this one wrote what the other lacks, and somebody promoted that by hand.
fn choose(run: &Run, own: &str, other: &str) -> String {
    let (attribute, resource) = (lacking::attribute(run), run.environment.resource());
    run.log.error(&format!(
        "{other} was promoted by hand, without what {own} acknowledged, and {own} has nothing of what was written to {other} \
         since. Choose one, the other is to be replaced by it (hvmail_ha rejoin there). The data of {own}: crm_standby --node {other} \
         --update on, and off again when {own} is promoted. The data of {other}: crm_attribute --lifetime forever --node {other} \
         --name {attribute} --delete; then: crm_resource --cleanup --resource {resource}"
    ));
    format!(
        "not promoted: {other} was promoted by hand without what {own} wrote; choose whose data is kept, see the log"
    )
}

fn decide(own_name: &str, own: &Position, told: &[Candidate], unheard: &[String]) -> Outcome {
    // After a reload Pacemaker knows of the promotion by the recurring monitor alone, and cancels that before it demotes; a
    // transition that is aborted in between leaves it without (update_resource_state, unpack.c).
    if let Some(rival) = told.iter().find(|one| one.primary) {
        return Outcome::Refused(format!(
            "not promoted: the server of {} accepts writes; it has to be demoted first, which its next monitor brings about",
            rival.node
        ));
    }
    for Candidate { node, position, .. } in told {
        let why = match own.against(position) {
            Standing::Equal | Standing::Ahead | Standing::OtherDiverged => continue,
            Standing::Behind => format!("{node} has more of the log: {position}; {own_name} has {own}"),
            Standing::Diverged(left) => {
                format!("{node} is on a newer timeline, {position}; {own_name} at {own} has left its way at {left}")
            }
            Standing::Unrelated => format!(
                "the timelines of {node} ({position}) and {own_name} ({own}) have parted; choose the node whose data is to be \
                 kept, and take a new base backup of it on the other"
            ),
        };
        return Outcome::Refused(format!("not promoted: {why}. For some seconds this node gives way to the other"));
    }
    if told.is_empty() && unheard.is_empty() {
        return Outcome::Best(format!("{own_name} at {own} is the only candidate"));
    }
    let silent = if unheard.is_empty() { String::new() } else { format!("; not heard of: {}", unheard.join(", ")) };
    Outcome::Best(format!("{own_name} at {own} has as much of the log as any other candidate{silent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        Position::from_attribute(text).unwrap()
    }

    fn decided(own: &str, others: &[&str]) -> Outcome {
        let one = |(text, node): (&&str, &str)| Candidate { node: node.to_owned(), position: at(text), primary: false };
        let told: Vec<_> = others.iter().zip(["n2", "n3"]).map(one).collect();
        decide("n1", &at(own), &told, &[])
    }

    #[test]
    fn the_one_with_the_most_is_promoted() {
        for (own, others) in [
            ("1:0/50", vec![]),
            ("1:0/50", vec!["1:0/50", "1:0/40"]),
            ("2:0/50 1@0/30", vec!["1:0/FF"]),
            ("2:0/50 1@0/30", vec!["1:0/30", "2:0/50 1@0/30"]),
        ] {
            assert!(matches!(decided(own, &others), Outcome::Best(_)), "{own} {others:?}");
        }
    }

    #[test]
    fn one_that_has_less_is_not_and_says_who_has_more() {
        for (own, others, words) in [
            ("1:0/50", vec!["1:0/40", "1:0/51"], "n3 has more of the log: 0/51 on timeline 1"),
            ("1:0/FF", vec!["2:0/50 1@0/30"], "n2 is on a newer timeline"),
            ("1:0/30", vec!["2:0/50 1@0/30"], "n2 has more"),
            ("2:0/50 1@0/30", vec!["3:0/50 1@0/30"], "have parted"),
        ] {
            let Outcome::Refused(why) = decided(own, &others) else { panic!("{own} {others:?}") };
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn beside_a_primary_nobody_is_promoted_whatever_it_has() {
        let rival = Candidate { node: "n2".to_owned(), position: at("1:0/40"), primary: true };
        let Outcome::Refused(why) = decide("n1", &at("1:0/50"), &[rival], &[]) else { panic!() };
        assert!(why.contains("the server of n2 accepts writes") && why.len() <= 127, "{why}");
    }

    #[test]
    fn a_node_that_says_nothing_holds_nobody_up_and_is_named() {
        let Outcome::Best(why) = decide("n1", &at("1:0/50"), &[], &["n2".to_owned()]) else { panic!() };
        assert!(why.ends_with("not heard of: n2"), "{why}");
    }
}
