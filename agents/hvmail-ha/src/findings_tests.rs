use super::*;
use crate::agents::Word;
use crate::captured::picture;
use crate::cib::Leftover;

/// Severity, node and a part of what is said of each finding.
fn shown(picture: &Picture) -> Vec<String> {
    let node = |one: &Finding| one.node.clone().unwrap_or_else(|| "-".to_owned());
    findings(picture).iter().map(|one| format!("{} {} {}", one.severity.word(), node(one), one.what)).collect()
}

fn says(picture: &Picture, expected: &[&str]) {
    let all = shown(picture);
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for part in expected {
        assert!(all.iter().any(|line| line.contains(part)), "{part:?} is not in {all:#?}");
    }
}

#[test]
fn a_healthy_pair_has_nothing_to_be_seen_to() {
    says(&picture("healthy"), &[]);
}

#[test]
fn real_states_say_what_is_wrong() {
    says(&picture("maintenance"), &["warning - maintenance mode"]);
    says(&picture("stopped"), &["critical - no node is Primary: hvmail_make_secondary --stop on n2 has ended it"]);
    says(&picture("degraded"), &["warning n1 services is degraded (2026-11-25 01:21:13Z): hvmail-httpd was taken"]);
    says(
        &picture("wrong-list"),
        &["n1 services is degraded", "n2 ips is degraded", "n2 could not take over: ips is not to be promoted"],
    );
    let fenced = picture("fenced");
    assert_eq!(overall(&findings(&fenced)), Severity::Warning);
    assert!(shown(&fenced).iter().any(|line| line.contains("n2 not in the cluster: nobody could take over")));
}

#[test]
fn constraints_that_a_move_needs_or_has_left_are_named() {
    let mut moving = picture("moving");
    assert!(shown(&moving).iter().any(|line| line.contains("hvmail-move-n1-pg-clone") && line.contains("at work")));
    moving.at = jiff::Timestamp::from_second(1_900_000_000).unwrap();
    assert!(shown(&moving).iter().any(|line| line.contains("hvmail-move-n1-pg-clone") && line.contains("expired")));
    let mut banned = picture("healthy");
    banned.configuration.leftovers.push(Leftover {
        id: "cli-ban-pg-clone-on-n2".to_owned(),
        resource: "pg-clone".to_owned(),
        ..Leftover::default()
    });
    says(&banned, &["constraint cli-ban-pg-clone-on-n2 of a move of pg-clone is left and still counts"]);
    assert_eq!(findings(&banned)[0].remedy.as_deref(), Some("crm_resource --clear --resource pg-clone"));
}

#[test]
fn what_is_worst_is_critical() {
    let mut split = picture("healthy");
    split.state.instances.iter_mut().filter(|one| one.resource == "pg").for_each(|one| one.role = "Promoted".into());
    assert!(shown(&split)[0].starts_with("critical - pg is promoted on"), "{:#?}", shown(&split));
    let mut alone = picture("healthy");
    (alone.state.quorum, alone.state.fencing) = (false, false);
    says(&alone, &["critical - this part of the cluster has no quorum", "critical - fencing is disabled"]);
    let mut unclean = picture("fenced");
    unclean.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.unclean = true);
    assert!(shown(&unclean)[0].starts_with("critical n2 unclean"), "{:#?}", shown(&unclean));
}

#[test]
fn what_an_agent_says_here_counts_at_once() {
    let mut picture = picture("healthy");
    picture.words[0] = Word { resource: "pg".into(), status: Some(191), text: "no standby is streaming".into() };
    picture.words[2] = Word { resource: "services".into(), status: Some(9), text: "2 services are down".into() };
    says(&picture, &["warning n1 pg: no standby is streaming", "critical n1 services: 2 services are down"]);
    // One that does not run here has nothing to say.
    picture.here = "n3".to_owned();
    says(&picture, &[]);
}

#[test]
fn what_was_not_seen_is_said() {
    let mut picture = picture("healthy");
    picture.unseen.push("ips-ip-list: attrd_updater: did not end within 4.0 s and was killed".to_owned());
    says(&picture, &["warning n1 not seen: ips-ip-list: attrd_updater: did not end within 4.0 s"]);
}

/// What n1's agents say is what n2's would say of a server that somebody promoted by hand.
#[test]
fn what_is_promoted_behind_the_clusters_back_is_critical() {
    let mut forced = Picture { here: "n2".to_owned(), ..picture("healthy") };
    says(
        &forced,
        &[
            "critical - pg is promoted on n1, and on n2 without the cluster's order: promoted: 0/5000148",
            "critical - ips is promoted on n1, and on n2 without",
            "critical - services is promoted on n1, and on n2 without",
        ],
    );
    let remedy = |picture: &Picture| findings(picture)[0].remedy.clone().unwrap();
    assert_eq!(remedy(&forced), "the cluster ends it on n2 now; then, there: hvmail_ha rejoin");
    forced.state.maintenance = true;
    assert!(
        remedy(&forced).starts_with("save what was written on n2 alone; then crm_attribute --name maintenance-mode")
    );
    says(&picture("healthy"), &[]);
}

/// The words of the agents at check level 10, on the node that Pacemaker has promoted.
#[test]
fn another_one_that_this_nodes_agents_see_is_critical() {
    let mut seen = picture("healthy");
    let word = |resource: &str, text: &str| Word { resource: resource.into(), status: Some(191), text: text.into() };
    seen.words[1] = word("ips", "192.0.2.10 is in use by 02:78:00:00:00:02 on eth0");
    says(&seen, &["critical - ips is promoted on n1, and elsewhere too: 192.0.2.10 is in use by 02:78:00:00:00:02"]);
    // That may be any host.
    let remedy = |picture: &Picture| findings(picture)[0].remedy.clone().unwrap();
    assert!(remedy(&seen).contains("by its hardware address"), "{}", remedy(&seen));
    seen.words[0] = word("pg", "the server at 192.0.2.2 accepts writes too, on timeline 3");
    assert!(remedy(&seen).starts_with("the cluster ends it on n2 now"), "{}", remedy(&seen));
}
