use super::*;
use crate::captured::picture;
use crate::cib::{Fence, Meta, Resource};
use crate::crm_mon::FailCount;

fn obstacles_of(picture: &Picture, target: &str) -> Vec<Obstacle> {
    told(picture, target, &[]).into_iter().map(|one| one.obstacle).collect()
}

/// A picture that no capture shows, made of one that does.
fn unclean() -> Picture {
    let mut picture = picture("fenced");
    picture.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.unclean = true);
    picture
}

#[test]
fn the_secondary_of_a_healthy_pair_could_take_over() {
    assert_eq!(told(&picture("healthy"), "n2", &[]), []);
    assert_eq!(peer_of(&picture("healthy"), "n2"), (Peer::Primary, Some("n1")));
}

#[test]
fn real_states_have_their_obstacles() {
    for (name, target, expected) in [
        ("maintenance", "n2", vec![Obstacle::Maintenance]),
        ("wrong-list", "n2", vec![Obstacle::Unready]),
        ("fenced", "n2", vec![Obstacle::TargetOffline]),
        ("standby", "n1", vec![Obstacle::TargetStandby]),
        ("stopped", "n1", vec![]),
    ] {
        assert_eq!(obstacles_of(&picture(name), target), expected, "{name}");
    }
}

#[test]
fn of_two_that_are_primary_nobody_takes_over() {
    let mut split = picture("healthy");
    split.state.instances.iter_mut().filter(|one| one.resource == "pg").for_each(|one| one.role = "Promoted".into());
    for target in ["n1", "n2"] {
        let told = told(&split, target, &[]).remove(0);
        assert_eq!((told.obstacle, told.way()), (Obstacle::Twice, None));
        assert_eq!(told.fact, "pg is promoted on n1 and n2");
    }
}

#[test]
fn a_peer_that_is_gone_is_down_unproven_or_unclean() {
    let fenced = picture("fenced");
    assert_eq!(peer_of(&fenced, "n1"), (Peer::Down, Some("n2")));
    assert_eq!(peer_of(&unclean(), "n1"), (Peer::Unclean, Some("n2")));
    let mut without = picture("fenced");
    without.state.fencing = false;
    assert_eq!(peer_of(&without, "n1"), (Peer::Unproven, Some("n2")));
    let mut trusting = picture("fenced");
    trusting.configuration.trusts_unseen = true;
    assert_eq!(peer_of(&trusting, "n1"), (Peer::Unproven, Some("n2")));
}

/// Of several other nodes the one that may do most harm counts.
#[test]
fn in_a_cluster_of_three_the_worst_of_the_others_counts() {
    let mut three = picture("healthy");
    let mut third = three.state.nodes[1].clone();
    third.name = "n3".to_owned();
    third.online = false;
    three.state.nodes.push(third);
    assert_eq!(peer_of(&three, "n2"), (Peer::Primary, Some("n1")), "n3 is down");
    assert_eq!(peer_of(&three, "n1"), (Peer::Secondary, Some("n2")));
    three.state.nodes[2].unclean = true;
    assert_eq!(peer_of(&three, "n2"), (Peer::Unclean, Some("n3")));
    let alone = {
        let mut alone = picture("healthy");
        alone.state.nodes.retain(|node| node.name == "n1");
        alone
    };
    assert_eq!(peer_of(&alone, "n1"), (Peer::None, None));
}

#[test]
fn a_node_where_only_a_part_is_promoted_has_the_role_still() {
    let mut partly = picture("healthy");
    partly
        .state
        .instances
        .iter_mut()
        .filter(|one| one.resource == "services")
        .for_each(|one| one.role = "Unpromoted".into());
    assert_eq!((partly.role("n1"), partly.primary()), (Role::Partly, None));
    assert_eq!(peer_of(&partly, "n2"), (Peer::Primary, Some("n1")));
}

#[test]
fn after_a_stop_the_last_primary_has_to_be_there() {
    let mut picture = picture("stopped");
    assert_eq!(obstacles_of(&picture, "n1"), []);
    picture.state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(|node| node.online = false);
    assert_eq!(obstacles_of(&picture, "n1"), [Obstacle::PeerHasMore]);
    let told = told(&picture, "n1", &[]).remove(0);
    assert_eq!(told.way().as_deref(), Some("--accept-data-loss=database"));
    picture.configuration.stopped.as_mut().unwrap().last_primary = "n1".to_owned();
    assert_eq!(obstacles_of(&picture, "n1"), []);
}

#[test]
fn scores_say_how_the_database_is() {
    for (score, expected) in [
        ("55", Database::Level),
        ("40", Database::Streamed),
        ("5", Database::Unstreamed),
        ("-INFINITY", Database::Unfit),
        ("garbage", Database::Unknown),
    ] {
        let mut picture = picture("healthy");
        let node = picture.state.nodes.iter_mut().find(|node| node.name == "n2").unwrap();
        node.attributes.retain(|(name, _)| name != "master-pg");
        node.attributes.push(("master-pg".to_owned(), score.to_owned()));
        assert_eq!(facts(&picture, "n2", &[]).database, expected, "{score}");
    }
}

#[test]
fn drbd_that_is_not_up_to_date_is_named() {
    let mut picture = picture("healthy");
    picture.state = crate::captured::state("drbd");
    let mut device = picture.configuration.resources.iter().find(|one| one.id == "ips").unwrap().clone();
    (device.id, device.agent) = ("p_drbd".to_owned(), "ocf:linbit:drbd".to_owned());
    picture.configuration.resources = vec![device];
    assert_eq!(facts(&picture, "n1", &[]).disk, Disk::UpToDate);
    picture.state.nodes[0].attributes = vec![("master-p_drbd".to_owned(), "5".to_owned())];
    assert_eq!(facts(&picture, "n1", &[]).disk, Disk::NotUpToDate);
    assert!(told(&picture, "n1", &[])[0].fact.contains("not UpToDate: p_drbd"));
}

/// Cut off, a Secondary takes its data for good.
#[test]
fn the_role_is_where_drbds_own_constraint_lets_it_be() {
    let mut picture = picture("healthy");
    let ips = picture.configuration.resources.iter().find(|one| one.id == "ips").unwrap().clone();
    picture.configuration.resources = ["r0", "r2"]
        .map(|name| Resource {
            id: format!("drbd-{name}"),
            agent: "ocf:greenarrow:drbd".to_owned(),
            promotable: Some(format!("drbd-{name}-clone")),
            parameters: vec![("drbd_resource".to_owned(), name.to_owned())],
            ..ips.clone()
        })
        .into();
    let scores = ["r0", "r2"].map(|name| (format!("master-drbd-{name}"), "1000".to_owned()));
    picture.state.nodes.iter_mut().for_each(|node| node.attributes = scores.clone().into());
    assert_eq!(["n1", "n2"].map(|node| facts(&picture, node, &[]).disk), [Disk::UpToDate; 2]);
    picture.configuration.fences.push(Fence {
        id: "drbd-fence-by-handler-r2-drbd-r2-clone".to_owned(),
        resource: "drbd-r2-clone".to_owned(),
        spared: vec!["n1".to_owned()],
    });
    assert_eq!(["n1", "n2"].map(|node| facts(&picture, node, &[]).disk), [Disk::UpToDate, Disk::NotUpToDate]);
    let told = told(&picture, "n2", &[]).remove(0);
    assert!(told.fact.contains("drbd-r2 (constraint drbd-fence-by-handler-r2-drbd-r2-clone: n1 may have"), "{told:?}");
    assert!(!told.fact.contains("drbd-r0"), "{told:?}");
    assert!(told.remedy.contains("drbdadm connect r2;"), "{told:?}");
    let text = "resync of volume 1 to the peer, 18.2 % done".to_owned();
    picture.words.push(crate::agents::Word { resource: "drbd-r2".to_owned(), status: Some(191), text });
    let fact = tell(&picture, "n2", &[], Obstacle::DiskNotUpToDate).fact;
    assert!(
        fact.ends_with("may have written without it): n1 says: resync of volume 1 to the peer, 18.2 % done"),
        "{fact}"
    );
    assert!(told.remedy.contains("cibadmin --delete --xml-text '<rsc_location id=\"drbd-fence-by"), "{told:?}");
    picture.state.nodes.iter_mut().filter(|node| node.name == "n1").for_each(|node| node.online = false);
    assert!(tell(&picture, "n2", &[], Obstacle::DiskNotUpToDate).remedy.contains("switch n1 on"), "{told:?}");
}

#[test]
fn a_failure_that_keeps_a_resource_away_is_forgotten_by_force() {
    let mut picture = picture("healthy");
    let count =
        FailCount { node: "n2".to_owned(), resource: "services".to_owned(), count: "1".to_owned(), banned: true };
    picture.state.counts.push(count);
    let told = told(&picture, "n2", &[]);
    assert_eq!(told[0].obstacle, Obstacle::Failed);
    assert!(told[0].remedy.contains("crm_resource --cleanup --resource services --node n2"));
    assert_eq!(told[0].way().as_deref(), Some("--force"));
}

#[test]
fn what_somebody_told_the_cluster_holds_the_role() {
    let left = |id: &str, node: &str| Leftover {
        id: id.to_owned(),
        resource: "pg-clone".to_owned(),
        node: Some(node.to_owned()),
        ..Leftover::default()
    };
    for (leftover, holds) in [
        (left("cli-ban-pg-clone-on-n2", "n2"), true),
        (left("cli-ban-pg-clone-on-n1", "n1"), false),
        (left("cli-prefer-pg-clone", "n1"), true),
        (left("cli-prefer-pg-clone", "n2"), false),
        (Leftover { until: Some(1), ..left("cli-ban-pg-clone-on-n2", "n2") }, false),
    ] {
        let mut picture = picture("healthy");
        picture.configuration.leftovers.push(leftover);
        assert_eq!(obstacles_of(&picture, "n2") == [Obstacle::Held], holds, "{:?}", picture.configuration.leftovers);
    }
    let meta = |word: &str| Some(Meta { of: "pg".to_owned(), word: word.to_owned() });
    let mut picture = picture("healthy");
    picture.configuration.resources.iter_mut().for_each(|one| one.target_role = meta("Started"));
    assert_eq!(obstacles_of(&picture, "n2"), []);
    picture.configuration.resources.iter_mut().for_each(|one| one.target_role = meta("Stopped"));
    let told = told(&picture, "n2", &[]);
    assert!(told[0].fact.contains("target-role=Stopped of pg-clone lets nobody be Primary"), "{told:?}");
    assert!(told[0].remedy.contains("--resource pg-clone --meta --delete-parameter target-role"), "{told:?}");
}

#[test]
fn what_is_not_managed_is_not_moved() {
    let mut picture = picture("healthy");
    picture.configuration.resources.iter_mut().filter(|one| one.id == "pg").for_each(|one| {
        one.unmanaged = Some(Meta { of: "pg".to_owned(), word: "is-managed".to_owned() });
    });
    let told = told(&picture, "n2", &[]).remove(0);
    assert_eq!((told.obstacle, told.way()), (Obstacle::Held, None));
    assert_eq!(told.fact, "pg-clone is not managed (is-managed): the cluster does nothing with it");
    assert_eq!(told.remedy, "crm_resource --resource pg-clone --meta --delete-parameter is-managed");
}

/// With a file system that follows the roles.
fn mounted() -> Picture {
    let mut picture = picture("healthy");
    let agent = "ocf:heartbeat:Filesystem".to_owned();
    picture.configuration.resources.push(Resource { id: "fs".to_owned(), agent, follows: true, ..Resource::default() });
    picture
}

#[test]
fn what_follows_the_role_is_judged_like_what_has_it() {
    assert_eq!(obstacles_of(&mounted(), "n2"), []);
    let mut failed = mounted();
    let count = |node: &str| FailCount {
        node: node.to_owned(),
        resource: "fs".to_owned(),
        count: "INFINITY".to_owned(),
        banned: true,
    };
    failed.state.counts.push(count("n1"));
    assert_eq!(obstacles_of(&failed, "n2"), [], "it has failed on the other node");
    failed.state.counts.push(count("n2"));
    let told_of = told(&failed, "n2", &[]).remove(0);
    assert_eq!(told_of.obstacle, Obstacle::Failed);
    assert!(told_of.remedy.ends_with("crm_resource --cleanup --resource fs --node n2"), "{told_of:?}");
    let mut banned = mounted();
    banned.configuration.leftovers.push(Leftover {
        id: "cli-ban-fs-on-n2".to_owned(),
        resource: "fs".to_owned(),
        node: Some("n2".to_owned()),
        ..Leftover::default()
    });
    let told_of = told(&banned, "n2", &[]).remove(0);
    assert_eq!((told_of.obstacle, told_of.remedy.as_str()), (Obstacle::Held, "crm_resource --clear --resource fs"));
    let mut unmanaged = mounted();
    let fs = unmanaged.configuration.resources.last_mut().unwrap();
    fs.unmanaged = Some(Meta { of: "mounts".to_owned(), word: "is-managed".to_owned() });
    let told_of = told(&unmanaged, "n2", &[]).remove(0);
    assert_eq!(told_of.fact, "mounts is not managed (is-managed): the cluster does nothing with it");
}

#[test]
fn of_two_databases_the_worse_counts() {
    let mut picture = picture("healthy");
    let second = Resource { id: "pg2".to_owned(), ..picture.configuration.of_agent("postgresql").unwrap().clone() };
    picture.configuration.resources.push(second);
    for (score, expected) in [("50", vec![]), ("5", vec![Obstacle::DatabaseUnfit])] {
        let mut picture = picture.clone();
        let instances: Vec<_> = picture.state.instances.iter().filter(|one| one.resource == "pg").cloned().collect();
        let second = |one| crate::crm_mon::Instance { resource: "pg2".to_owned(), ..one };
        picture.state.instances.extend(instances.into_iter().map(second));
        picture.state.nodes.iter_mut().for_each(|node| node.attributes.push(("master-pg2".into(), score.into())));
        assert_eq!(obstacles_of(&picture, "n2"), expected, "{score}");
        assert!(told(&picture, "n2", &[]).iter().all(|one| one.fact.contains("promotion score of pg2: 5")));
    }
}

/// It is online, and nobody can compare logs with it.
#[test]
fn a_peer_whose_database_does_not_run_may_have_more() {
    let mut picture = picture("stopped");
    picture.state.instances.retain(|one| one.resource != "pg" || one.node.as_deref() != Some("n2"));
    assert_eq!(peer_of(&picture, "n1"), (Peer::Idle, Some("n2")));
    let told = told(&picture, "n1", &[]).remove(0);
    assert_eq!((told.obstacle, told.way().as_deref()), (Obstacle::PeerHasMore, Some("--accept-data-loss=database")));
    assert!(told.fact.starts_with("n2 was Primary last and does not run its database"), "{told:?}");
    assert!(told.remedy.starts_with("have n2 start it"), "{told:?}");
    assert!(soon(&picture, "n1", |_| true, |_| None).unwrap().contains("not everything runs on n2"));
}

#[test]
fn of_several_lists_that_which_differs_is_named() {
    let picture = crate::captured::two_lists();
    assert_eq!(lists_differ(&picture), ["the lists of addresses of ips2 differ: n1 has 2, n2 has 1 addresses"]);
    assert_eq!(obstacles_of(&picture, "n2"), [Obstacle::Unready]);
}

/// What is typed a few seconds after a start is not refused because of that.
#[test]
fn what_may_be_over_soon_is_waited_for() {
    let started = |seconds| move |_: &str| seconds;
    let of = |picture: &Picture, seconds| soon(picture, "n2", |_| false, started(seconds));
    assert_eq!(of(&picture("healthy"), Some(1)), None, "nothing is in its way");
    let mut unfit = picture("healthy");
    let node = unfit.state.nodes.iter_mut().find(|node| node.name == "n2").unwrap();
    node.attributes.retain(|(name, _)| name != "master-pg");
    node.attributes.push(("master-pg".to_owned(), "5".to_owned()));
    assert!(of(&unfit, Some(29)).unwrap().contains("has just become a standby"));
    assert_eq!((of(&unfit, Some(31)), of(&unfit, None)), (None, None));
    let mut joining = picture("healthy");
    joining.state.nodes.iter_mut().for_each(|node| node.pending = true);
    assert_eq!(of(&joining, None).as_deref(), Some("n2 is joining or leaving the cluster"));
    let mut joined = picture("healthy");
    joined.state.instances.retain(|one| one.node.as_deref() != Some("n2"));
    assert_eq!(
        soon(&joined, "n2", |_| true, started(None)).as_deref(),
        Some("not everything runs on n2 yet, and the cluster is at work")
    );
    assert_eq!(of(&joined, None), None);
    let leaderless = Picture { state: crate::crm_mon::Monitored { dc: None, ..picture("healthy").state }, ..unfit };
    assert!(of(&leaderless, None).unwrap().contains("coordinator (DC)"));
}

#[test]
fn another_nodes_command_is_waited_for_while_it_may_live() {
    let mut picture = picture("moving");
    assert_eq!(mover(&picture), None, "its own is no hindrance");
    picture.here = "n2".to_owned();
    assert_eq!(mover(&picture).and_then(|one| one.by.as_deref()), Some("n1"));
    picture.state.nodes.iter_mut().for_each(|node| node.online = node.name != "n1");
    assert_eq!(mover(&picture), None, "its node is gone");
}

/// Every obstacle says what is so and names a command or a deed, and never something unfilled.
#[test]
fn every_obstacle_has_its_sentence_and_its_remedy() {
    use Obstacle as O;
    for obstacle in [
        O::PeerUnclean,
        O::PeerUnproven,
        O::AddressesAnswer,
        O::DatabaseUnfit,
        O::DatabaseUnknown,
        O::PeerHasMore,
        O::DiskNotUpToDate,
        O::TargetOffline,
        O::NoQuorum,
        O::Maintenance,
        O::TargetMaintenance,
        O::TargetPassing,
        O::TargetStandby,
        O::Moving,
        O::Failed,
    ] {
        let told = tell(&unclean(), "n1", &["192.0.2.1".to_owned()], obstacle);
        assert!(told.fact.len() > 15 && told.remedy.len() > 15, "{told:?}");
    }
    let told = tell(&picture("wrong-list"), "n2", &[], O::Unready);
    assert!(told.fact.contains("the lists of addresses differ: n1 has 4, n2 has 1 addresses"), "{}", told.fact);
    assert!(told.fact.contains("prefix length is missing"), "{}", told.fact);
}

#[test]
fn what_a_node_lacks_is_given_up_by_name_only_and_while_who_has_it_is_gone() {
    let mut picture = picture("healthy");
    let word = Lacks { node: "n2".to_owned(), resource: "pg".to_owned(), author: "n1".to_owned() };
    picture.configuration.lacks.push(word);
    assert_eq!(
        facts(&picture, "n2", &[]).database,
        Database::Level,
        "whoever wrote is there, and the scores tell the rest"
    );
    picture.state.nodes.iter_mut().filter(|node| node.name == "n1").for_each(|node| node.online = false);
    let told = told(&picture, "n2", &[]).remove(0);
    assert_eq!((told.obstacle, told.way().as_deref()), (Obstacle::PeerHasMore, Some("--accept-data-loss=database")));
    assert!(told.fact.starts_with("n1 acknowledged commits that the database on n2 lacks"), "{}", told.fact);
}
