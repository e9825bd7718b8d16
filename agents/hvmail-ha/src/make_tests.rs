use std::fmt::Write;

use super::*;
use crate::captured::{both_primary, is_as_kept, picture};

/// States, and the node that is to become Primary in them.
fn states() -> Vec<(&'static str, Picture, &'static str)> {
    let mut unclean = picture("fenced");
    unclean.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.unclean = true);
    let mut unproven = picture("fenced");
    unproven.state.fencing = false;
    let mut hung = picture("healthy");
    hung.unseen.push("ips-ip-list: attrd_updater did not end within 4.0 s and was killed".to_owned());
    let mut away = picture("stopped");
    away.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.online = false);
    let mut behind = picture("healthy");
    for node in &mut behind.state.nodes {
        node.attributes.iter_mut().filter(|(name, _)| name == "master-pg").for_each(|(_, score)| *score = "5".into());
    }
    vec![
        ("healthy", picture("healthy"), "n2"),
        ("maintenance", picture("maintenance"), "n2"),
        ("the list there is another one", picture("wrong-list"), "n2"),
        ("the standby was fenced", picture("fenced"), "n2"),
        ("the peer was not fenced", unclean, "n1"),
        ("the peer is gone, without fencing", unproven, "n1"),
        ("in standby", picture("standby"), "n1"),
        ("stopped, and the last Primary is away", away, "n1"),
        ("the database is behind", behind, "n2"),
        ("attrd hangs", hung, "n2"),
        ("both Primary, from n1", both_primary("n1"), "n2"),
        ("both Primary, from n2", both_primary("n2"), "n2"),
    ]
}

/// Lines are as long as their sentences: in a pipe one is one, and a terminal breaks them without spoiling a command that is
/// copied from it.
fn kept(name: &str, shown: impl Fn(&Picture, &str) -> String) {
    let text = states().into_iter().fold(String::new(), |mut text, (state, picture, target)| {
        let _ = writeln!(text, "# {state}\n{}\n", shown(&picture, target));
        text
    });
    assert!(!text.contains('\x1b'), "{text}");
    is_as_kept(name, &text);
}

#[test]
fn the_screens_of_refusals_are_as_they_were() {
    let options = Options::silent();
    let (picture, target) = (both_primary("n2"), "n2");
    assert_eq!(twice(&picture, target), Some(REFUSED));
    kept("preflight", |picture, target| readiness(target, &preflight::told(picture, target, &[])));
    kept("make_primary", |picture, target| {
        let answering = if picture.primary().is_none() { vec!["10.78.1.1".to_owned()] } else { Vec::new() };
        let told = preflight::told(picture, target, &answering);
        refusal(&format!("{target} is not made Primary"), &told, &left_of(&told, &options), "")
    });
    kept("make_secondary", |picture, target| {
        let node = if target == "n1" { "n2" } else { "n1" };
        let (target, told) = best(picture, node, &options).unwrap();
        not_secondary(node, target, &told, &options)
    });
}

/// What Pacemaker knows of a node that it has lost, or that somebody has promoted by hand, is not all.
#[test]
fn a_node_that_may_be_primary_is_not_called_secondary() {
    let idle = |name: &str| {
        let mut picture = picture(name);
        picture.words.iter_mut().for_each(|word| word.status = Some(0));
        picture
    };
    assert_eq!(without_role(&idle("healthy"), "n2", &[]).unwrap(), "n2 is not Primary, n1 is; nothing to do");
    let stopped = idle("stopped");
    assert!(without_role(&stopped, "n1", &[]).unwrap().ends_with("no other node is; nothing to do"));
    let there = without_role(&stopped, "n2", &[]).unwrap();
    assert!(there.contains("its agents were not asked") && !there.contains("nothing to do"), "{there}");
    let refused = without_role(&stopped, "n2", &["192.0.2.1".to_owned()]).unwrap_err();
    assert!(refused.contains("192.0.2.1") && refused.ends_with("nothing was changed"), "{refused}");
    let here = without_role(&stopped, "n1", &["192.0.2.1".to_owned()]).unwrap();
    assert!(here.starts_with("n1 is not Primary; but addresses of the pair answer"), "{here}");
    let mut lost = stopped.clone();
    lost.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.unclean = true);
    let here = without_role(&lost, "n1", &[]).unwrap();
    assert!(here.contains("n1 is not Primary; but n2 is not in the cluster and was not fenced"), "{here}");
    let mut by_hand = idle("stopped");
    by_hand.words.iter_mut().filter(|word| word.resource == "pg").for_each(|word| word.status = Some(8));
    let refused = without_role(&by_hand, "n1", &[]).unwrap_err();
    assert!(refused.contains("pg is active on n1 without the cluster's order"), "{refused}");
    assert!(refused.contains("crm_resource --refresh --resource pg --node n1"), "{refused}");
    let gone = idle("fenced");
    assert_eq!(without_role(&gone, "n2", &[]).unwrap(), "n2 is not Primary, n1 is; nothing to do");
    let mut unclean = gone.clone();
    unclean.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.unclean = true);
    let refused = without_role(&unclean, "n2", &[]).unwrap_err();
    assert!(
        refused.contains("n2 is not in the cluster and was not fenced") && refused.contains("--confirm n2"),
        "{refused}"
    );
    let mut unproven = gone;
    unproven.state.fencing = false;
    assert!(without_role(&unproven, "n2", &[]).unwrap_err().contains("nobody knows that it is off"));
}
