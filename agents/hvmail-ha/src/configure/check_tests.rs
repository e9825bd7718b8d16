use super::*;
use crate::captured::text;
use crate::configure::model::tests::{full, minimal};
use crate::configure::xml;

fn of(model: &Model, cib: &str) -> Vec<String> {
    differences(model, &Found::parse(cib).unwrap())
        .into_iter()
        .map(|one| format!("{}\n{}", one.what, one.remedy))
        .collect()
}

fn printed() -> (Model, String) {
    let model = Model::of(&full()).unwrap();
    let cib = xml::print(&model);
    (model, cib)
}

#[test]
fn what_is_printed_is_as_it_should_be() {
    for options in [full(), minimal()] {
        let model = Model::of(&options).unwrap();
        assert_eq!(of(&model, &xml::print(&model)), [""; 0]);
        // Of itself it has the same parts.
        let found = Found::parse(&xml::print(&model)).unwrap();
        let mut own = found.as_options().unwrap();
        own.nodes = options.nodes;
        own.without_fencing = options.without_fencing;
        assert_eq!(differences(&Model::of(&own).unwrap(), &found), []);
    }
}

/// What is replaced in the XML that is printed, and what has to be said then.
const CHANGES: &[(&str, &str, &[&str])] = &[
    (
        "name=\"stonith-enabled\" value=\"true\"",
        "name=\"stonith-enabled\" value=\"false\"",
        &["stonith-enabled=false", "both become Primary", "crm_attribute --name stonith-enabled"],
    ),
    (
        "name=\"priority-fencing-delay\" value=\"20s\"",
        "name=\"priority-fencing-delay\" value=\"0\"",
        &["priority-fencing-delay is not set", "crm_attribute --name priority-fencing-delay --update 20s"],
    ),
    (
        "name=\"priority\" value=\"1\"",
        "name=\"priority\" value=\"0\"",
        &["drbd: priority=0: the Primary's fencing is delayed no more than the other's", "--set-parameter priority"],
    ),
    (
        "name=\"pcmk_host_list\" value=\"n2\"",
        "name=\"pcmk_host_list\" value=\"n3\"",
        &["no fencing device can switch n2 off", "fence-n2"],
    ),
    ("type=\"Filesystem\"", "type=\"Dummy\"", &["no resource ocf:heartbeat:Filesystem with directory=/srv/greenarrow"]),
    (
        "name=\"drbd_resource\" value=\"mail\"",
        "name=\"drbd_resource\" value=\"web\"",
        &["drbd: drbd_resource=web; wanted is drbd_resource=mail"],
    ),
    (
        "name=\"sync\" value=\"prefer\"",
        "name=\"sync\" value=\"off\"",
        &["pg: sync=off; wanted is sync=prefer", "--parameter-value prefer"],
    ),
    (
        "id=\"pg-clone-meta_attributes-promotable\" name=\"promotable\" value=\"true\"",
        "id=\"x\" name=\"promotable\" value=\"false\"",
        &["pg is in no promotable clone", "pcs resource promotable pg"],
    ),
    (
        "id=\"pg-clone-meta_attributes-notify\" name=\"notify\" value=\"true\"",
        "id=\"x\" name=\"x\" value=\"true\"",
        &["pg-clone: notify is not set", "--resource pg-clone --meta --set-parameter notify"],
    ),
    (
        "id=\"ips-clone-meta_attributes-interleave\" name=\"interleave\" value=\"true\"",
        "id=\"x\" name=\"interleave\" value=\"no\"",
        &["ips-clone: interleave=no, not true"],
    ),
    (
        "name=\"clone-max\" value=\"2\"",
        "name=\"clone-max\" value=\"1\"",
        &["drbd-clone: clone-max=1, not 2: a node has no instance"],
    ),
    (
        "id=\"mail-meta_attributes-migration-threshold\" name=\"migration-threshold\" value=\"1\"",
        "id=\"x\" name=\"migration-threshold\" value=\"INFINITY\"",
        &["mail: migration-threshold=INFINITY", "again and again"],
    ),
    (
        "id=\"ips-meta_attributes-failure-timeout\" name=\"failure-timeout\"",
        "id=\"x\" name=\"x\"",
        &["ips: failure-timeout is not set", "until somebody cleans up"],
    ),
    (
        "id=\"mail-monitor-10s\" name=\"monitor\"",
        "id=\"x\" name=\"x\"",
        &[
            "mail has no monitor of the promoted instance: its failures go unnoticed",
            "pcs resource update mail op monitor interval=10s timeout=30s role=Promoted",
        ],
    ),
    (
        "id=\"pg-monitor-67s\" name=\"monitor\" interval=\"67s\"",
        "id=\"x\" name=\"monitor\" interval=\"61\"",
        &["pg has two monitors with the interval 61"],
    ),
    (
        "name=\"stop\" interval=\"0s\" timeout=\"300s\"",
        "name=\"stop\" interval=\"0s\" timeout=\"299s\"",
        &["mail: the timeout of stop is 299s, the agent asks for 300s", "op stop interval=0s timeout=300s"],
    ),
    (
        "id=\"pg-demote-0s\" name=\"demote\"",
        "id=\"x\" name=\"x\"",
        &["pg: the timeout of demote is 20s (the default), the agent asks for 300s"],
    ),
    (
        "rsc=\"fs-srv-greenarrow\" with-rsc",
        "rsc=\"fence-n1\" with-rsc",
        &[
            "nothing keeps fs-srv-greenarrow where the promoted drbd-clone is",
            "constraint colocation add fs-srv-greenarrow with Promoted drbd-clone",
        ],
    ),
    (
        "rsc=\"mail-clone\" rsc-role=\"Promoted\"",
        "rsc=\"mail-clone\"",
        &[
            "nothing keeps the promoted mail-clone where the promoted ips-clone is",
            "crm configure colocation mail-with-ips inf: mail-clone:Promoted ips-clone:Promoted",
        ],
    ),
    (
        "score=\"INFINITY\" rsc=\"ips-clone\"",
        "score=\"100\" rsc=\"ips-clone\"",
        &["nothing keeps the promoted ips-clone where the promoted pg-clone is"],
    ),
    (
        "id=\"ips-after-pg\" kind=\"Mandatory\"",
        "id=\"x\" kind=\"Optional\"",
        &[
            "nothing makes the promoted ips-clone wait for the promoted pg-clone",
            "pcs constraint order promote pg-clone then promote ips-clone",
        ],
    ),
    (
        "score-attribute=\"master-pg\"",
        "score-attribute=\"master-ips\"",
        &[
            "nothing brings the promoted drbd-clone to the node with the better database",
            "pcs constraint location drbd-clone rule constraint-id=drbd-where-pg role=Promoted score-attribute=master-pg defined",
            "crm configure location drbd-where-pg drbd-clone rule role=Promoted master-pg: defined master-pg",
        ],
    ),
    (
        "role=\"Promoted\">\n        <expression",
        "role=\"Started\"><expression",
        &["nothing brings the promoted drbd-clone"],
    ),
    (
        "attribute=\"master-pg\" operation=\"defined\"",
        "attribute=\"#uname\" operation=\"defined\"",
        &["drbd-where-pg bars the promoted drbd-clone from a node where pg has no score yet", "edit drbd-where-pg"],
    ),
    (
        "first=\"mail-clone\" first-action=\"start\"",
        "first=\"mail-clone\" first-action=\"promote\"",
        &["nothing makes the start of pg-clone wait for that of mail-clone", "kind=Optional"],
    ),
    (
        "name=\"resource-stickiness\" value=\"100\"",
        "name=\"resource-stickiness\" value=\"0\"",
        &["resource-stickiness is 0", "crm_attribute --type rsc_defaults"],
    ),
    ("path=\"/usr/local/bin/tell\"", "path=\"/bin/true\"", &["no alert calls /usr/local/bin/tell"]),
];

#[test]
fn every_change_is_found_and_the_remedy_named() {
    let (model, cib) = printed();
    for (from, to, words) in CHANGES {
        assert_eq!(cib.matches(*from).count(), 1, "{from}");
        let found = of(&model, &cib.replace(from, to));
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        for word in *words {
            assert!(found[0].contains(word), "{word:?} is not in {:?}", found[0]);
        }
    }
}

#[test]
fn names_forms_and_better_values_do_not_matter() {
    let (model, cib) = printed();
    for (from, to) in [
        ("pg-clone", "database-ms"),
        ("drbd-where-pg", "location-drbd-clone"),
        ("primitive id=\"mail\"", "primitive id=\"services\""),
        ("timeout=\"60s\"", "timeout=\"2min\""),
        ("timeout=\"300s\"", "timeout=\"600\""),
        ("interval=\"61s\"", "interval=\"59s\""),
        ("role=\"Unpromoted\"", "role=\"Slave\""),
        ("role=\"Promoted\"", "role=\"Master\""),
        ("name=\"migration-threshold\" value=\"2\"", "name=\"migration-threshold\" value=\"3\""),
        ("name=\"resource-stickiness\" value=\"100\"", "name=\"resource-stickiness\" value=\"INFINITY\""),
        ("<rsc_defaults>", "<rsc_defaults><meta_attributes id=\"x\"/>"),
        ("name=\"pcmk_host_list\" value=\"n2\"", "name=\"pcmk_host_map\" value=\"n1:1;n2:2\""),
        ("name=\"stonith-enabled\" value=\"true\"", "name=\"x\" value=\"true\""),
    ] {
        assert!(cib.contains(from), "{from}");
        assert_eq!(of(&model, &cib.replace(from, to)), [""; 0], "{from} -> {to}");
    }
}

/// One constraint may stand for several, by a set or by way of another resource.
#[test]
fn sets_and_detours_hold_as_well() {
    let (model, cib) = printed();
    let before = cib.split("<constraints>").next().unwrap();
    let after = cib.split("</constraints>").nth(1).unwrap();
    let set = |role: &str, ids: &[&str]| {
        let members: String = ids.iter().flat_map(|id| ["<resource_ref id=\"", id, "\"/>"]).collect();
        format!("<resource_set id=\"x\" {role}>{members}</resource_set>")
    };
    let clones = ["pg-clone", "ips-clone", "mail-clone"];
    let constraints = format!(
        "<constraints><rsc_colocation id=\"a\" score=\"INFINITY\">{}{}{}</rsc_colocation>\
         <rsc_order id=\"b\">{}{}{}</rsc_order>\
         <rsc_order id=\"c\" kind=\"Optional\" first=\"mail-clone\" then=\"pg-clone\"/>\
         <rsc_location id=\"d\" rsc=\"drbd\"><rule id=\"e\" role=\"Master\" score-attribute=\"master-pg\">\
         <expression id=\"f\" attribute=\"master-pg\" operation=\"defined\"/></rule></rsc_location></constraints>",
        set("role=\"Promoted\"", &clones),
        set("", &["fs-srv-greenarrow"]),
        set("role=\"Promoted\"", &["drbd-clone"]),
        set("action=\"promote\"", &["drbd-clone"]),
        set("action=\"start\"", &["fs-srv-greenarrow"]),
        set("action=\"promote\"", &clones),
    );
    assert_eq!(of(&model, &format!("{before}{constraints}{after}")), [""; 0]);
    assert!(of(&model, &format!("{before}<constraints/>{after}")).len() == 10);
}

/// The test cluster's own configuration has short timeouts, and says so.
#[test]
fn a_running_cluster_is_held_against_its_agents() {
    let found = Found::parse(&text("healthy.cib.xml")).unwrap();
    let model = Model::of(&found.as_options().unwrap()).unwrap();
    let all: Vec<_> = differences(&model, &found).into_iter().map(|one| one.what).collect();
    for what in [
        "pg: the timeout of start is 60s, the agent asks for 300s",
        "pg: the timeout of monitor of the promoted instance is 20s, the agent asks for 30s",
        "pg has no monitor of the promoted instance at check level 10: what only that looks at goes unnoticed",
        "services: the timeout of stop is 20s (the default), the agent asks for 300s",
        "services: failure-timeout is not set: a node where it has failed stays barred until somebody cleans up",
        "ips: migration-threshold is not set: when it fails it is recovered where it is, again and again, however ready the \
         other node is",
        "resource-stickiness is not set: resources may move for nothing",
    ] {
        assert!(all.contains(&what.to_owned()), "{what:?} is not in {all:#?}");
    }
    assert!(!all.iter().any(|what| what.contains("nothing keeps") || what.contains("fencing")), "{all:#?}");
}

#[test]
fn what_is_no_configuration_is_an_error() {
    for text in ["", "<status/>", "Call cib_query failed", "<cib/>"] {
        assert!(Found::parse(text).is_err(), "{text:?}");
    }
    let empty = Found::parse("<cib><configuration/></cib>").unwrap();
    assert!(empty.as_options().unwrap_err().to_string().contains("no resource of this package's agents"));
    assert_eq!(differences(&Model::of(&minimal()).unwrap(), &empty).len(), 2);
}
