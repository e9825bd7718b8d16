use super::*;
use crate::configure::options;

/// Every part there is.
pub(crate) fn full() -> Options {
    Options {
        nodes: ["n1=192.0.2.1", "n2=192.0.2.2"].map(|text| options::node(text).unwrap()).into(),
        fences: ["n1", "n2"]
            .map(|node| {
                options::fence(&format!("{node}=fence_ipmilan:ip=192.0.2.9,password=it's \"a\" $x & <y>")).unwrap()
            })
            .into(),
        drbd: vec!["mail".to_owned()],
        mounts: vec![options::mount("/dev/drbd0:/srv/greenarrow:xfs:noatime").unwrap()],
        database: Some("/var/hvmail/postgres/default/data".to_owned()),
        ip_file: Some("/etc/hvmail_primary_ips".to_owned()),
        services: Some("hvmail-*".to_owned()),
        settings: ["postgresql:control=daemontools", "services:critical=hvmail-qmail-smtpd2 hvmail-httpd"]
            .map(|text| options::setting(text).unwrap())
            .into(),
        alerts: vec!["/usr/local/bin/tell".to_owned()],
        fencing_delay: Some(20),
        ..Options::default()
    }
}

/// Addresses and nothing else, without fencing.
pub(crate) fn minimal() -> Options {
    Options {
        nodes: ["n1", "n2"].map(|text| options::node(text).unwrap()).into(),
        without_fencing: true,
        ip_file: Some("/etc/hvmail_primary_ips".to_owned()),
        ..Options::default()
    }
}

fn ids(model: &Model) -> Vec<String> {
    model.chain.iter().map(Member::id).collect()
}

#[test]
fn a_full_pair_is_a_chain_in_its_order() {
    let model = Model::of(&full()).unwrap();
    assert_eq!(ids(&model), ["drbd-clone", "fs-srv-greenarrow", "pg-clone", "ips-clone", "mail-clone"]);
    let roles = |place: &Place| format!("{}{}", if place.promoted { "promoted " } else { "" }, place.id);
    let links: Vec<_> =
        model.colocations.iter().map(|one| format!("{} with {}", roles(&one.dependent), roles(&one.with))).collect();
    assert_eq!(
        links,
        [
            "fs-srv-greenarrow with promoted drbd-clone",
            "promoted pg-clone with fs-srv-greenarrow",
            "promoted ips-clone with promoted pg-clone",
            "promoted mail-clone with promoted ips-clone"
        ]
    );
    let step = |step: &Step| format!("{} {}", step.action, step.id);
    let orders: Vec<_> = model.orders.iter().map(|one| format!("{}, {}", step(&one.first), step(&one.then))).collect();
    assert_eq!(
        orders,
        [
            "promote drbd-clone, start fs-srv-greenarrow",
            "start fs-srv-greenarrow, promote pg-clone",
            "promote pg-clone, promote ips-clone",
            "promote ips-clone, promote mail-clone",
            "start mail-clone, start pg-clone"
        ]
    );
    assert_eq!(model.orders.iter().filter(|one| !one.mandatory).count(), 1);
    let thresholds: Vec<_> =
        model.chain.iter().map(|member| value(&member.primitive.meta, "migration-threshold").unwrap_or("")).collect();
    assert_eq!(thresholds, ["", "2", "2", "2", "1"]);
    let notified = model.chain.iter().map(|one| one.clone.as_ref().and_then(|meta| value(meta, "notify")).is_some());
    assert_eq!(notified.collect::<Vec<_>>(), [true, false, true, false, false]);
}

#[test]
fn the_database_says_where_the_head_of_the_chain_goes() {
    let of = |options: Options| {
        let preference = Model::of(&options).unwrap().preference?;
        Some((preference.head.id, preference.head.promoted, preference.attribute))
    };
    let led = |head: &str, promoted| Some((head.to_owned(), promoted, "master-pg".to_owned()));
    assert_eq!(of(full()), led("drbd-clone", true));
    assert_eq!(of(Options { drbd: Vec::new(), ..full() }), led("fs-srv-greenarrow", false));
    // Where it is the head itself, its own score is what counts.
    assert_eq!(of(Options { drbd: Vec::new(), mounts: Vec::new(), ..full() }), None);
    assert_eq!(of(Options { database: None, settings: Vec::new(), ..full() }), None);
}

#[test]
fn parameters_are_what_is_no_default_and_what_was_set() {
    let model = Model::of(&full()).unwrap();
    let of = |kind: &str| &model.chain.iter().find(|one| one.primitive.kind == kind).unwrap().primitive.parameters;
    let database = [
        ("primary_hosts", "n1:192.0.2.1 n2:192.0.2.2"),
        ("sync", "prefer"),
        ("rejoin", "rewind"),
        ("control", "daemontools"),
    ];
    assert_eq!(*of("postgresql"), pairs(database));
    assert_eq!(*of("primary-ips"), []);
    let critical = ("critical", "hvmail-qmail-smtpd2 hvmail-httpd");
    let first = ("stop_first", "hvmail-studio-worker hvmail-qmail-send");
    assert_eq!(*of("services"), pairs([("svscan", "start"), first, critical]));
    // Nothing moves that the queue could be on.
    let services = Options { services: full().services, mounts: Vec::new(), ..minimal() };
    let services = Model::of(&services).unwrap().chain.pop().unwrap();
    assert_eq!(services.primitive.parameter("stop_first"), None);
    assert_eq!(*of("drbd"), pairs([("drbd_resource", "mail")]));
    let names: Vec<_> = model.fences.iter().map(|one| (one.id.as_str(), one.parameter("pcmk_host_list"))).collect();
    assert_eq!(names, [("fence-n1", Some("n1")), ("fence-n2", Some("n2"))]);
    let delays: Vec<_> = model.fences.iter().map(|one| one.parameter("pcmk_delay_base")).collect();
    assert_eq!(delays, [Some("5s"), None]);
}

#[test]
fn parts_that_are_not_there_leave_no_gap() {
    let model = Model::of(&minimal()).unwrap();
    assert_eq!((ids(&model), model.colocations.len(), model.orders.len()), (vec!["ips-clone".to_owned()], 0, 0));
    assert!(!model.fencing && model.chain[0].primitive.meta.is_empty());
    let two = Options { drbd: ["a", "b"].map(str::to_owned).into(), ip_file: None, ..minimal() };
    assert_eq!(ids(&Model::of(&two).unwrap()), ["drbd-a-clone", "drbd-b-clone"]);
    let mounts = ["/dev/drbd0:/srv/a:xfs", "/dev/drbd1:/srv-a:xfs"].map(|text| options::mount(text).unwrap()).into();
    let same = Options { mounts, ip_file: None, ..minimal() };
    assert_eq!(ids(&Model::of(&same).unwrap()), ["fs-srv-a", "fs-srv-a-2"]);
    // Without addresses of the nodes the agent's own default stands.
    let database = Options { database: Some("/data".to_owned()), ..minimal() };
    let model = Model::of(&database).unwrap();
    assert_eq!(model.chain[0].primitive.parameter("primary_hosts"), None);
    assert_eq!(model.chain[0].primitive.parameter("pgdata"), Some("/data"));
}

#[test]
fn one_device_may_be_of_both_nodes_and_a_delay_that_is_given_stays() {
    let mut options = full();
    options.fences = vec![options::fence("n1,n2=fence_sbd:devices=/dev/sdb,pcmk_host_map=n1:1;n2:2").unwrap()];
    let model = Model::of(&options).unwrap();
    assert_eq!((model.fences[0].id.as_str(), model.apart.len()), ("fence-n1-n2", 0));
    assert_eq!(model.fences[0].parameters.len(), 2);
    options.fences = vec![options::fence("n1=fence_x:pcmk_delay_max=9s").unwrap()];
    assert_eq!(Model::of(&options).unwrap().fences[0].parameters.len(), 2);
}

#[test]
fn what_breaks_depends_on_the_parts() {
    let all = breaks(&full()).len();
    assert_eq!((all, breaks(&minimal()).len()), (7, 4));
}
