use super::*;
use crate::captured::{state, text};

#[test]
fn a_healthy_pair_is_read() {
    let state = state("healthy");
    assert_eq!((state.dc.as_deref(), state.quorum, state.fencing, state.maintenance), (Some("n1"), true, true, false));
    assert!(state.nodes.iter().all(|node| node.online && !node.unclean && !node.standby), "{:#?}", state.nodes);
    for resource in ["pg", "ips", "services"] {
        assert_eq!(state.nodes_in_role(resource, "Promoted"), ["n1"], "{resource}");
        assert_eq!(state.nodes_in_role(resource, "Unpromoted"), ["n2"], "{resource}");
        assert!(!state.changing(resource));
        let scores = ["n1", "n2"].map(|node| state.node(node).unwrap().score(resource));
        assert_eq!(scores, [Some(100), Some(50)], "{resource}");
        assert!(state.confirmed.contains(&("n1".to_owned(), resource.to_owned())));
        assert!(!state.confirmed.contains(&("n2".to_owned(), resource.to_owned())));
        assert!(state.not_promoted.contains(&("n2".to_owned(), resource.to_owned())));
        assert!(!state.not_promoted.contains(&("n1".to_owned(), resource.to_owned())));
    }
    assert!(state.failures.is_empty() && state.fencings.is_empty() && state.counts.is_empty());
}

#[test]
fn what_is_under_way_has_no_node() {
    let state = state("moving");
    assert!(state.changing("pg") && !state.changing("ips"));
    assert!(state.instances.iter().any(|one| one.resource == "pg" && one.role == "Demoting" && one.node.is_none()));
    assert_eq!(state.nodes_in_role("pg", "Promoted"), [""; 0]);
}

#[test]
fn degraded_answers_are_told_from_failures_and_reasons_are_read_twice() {
    let state = state("wrong-list");
    let [services, ips] = state.failures.as_slice() else { panic!("{:#?}", state.failures) };
    assert_eq!(
        (services.resource.as_str(), services.task.as_str(), services.node.as_str()),
        ("services", "monitor", "n1")
    );
    assert!(services.is_degraded() && ips.is_degraded());
    assert_eq!(services.reason.as_deref(), Some("hvmail-httpd was taken down; svc -u brings it up"));
    let reason = ips.reason.as_deref().unwrap();
    assert!(reason.contains("line 1: \"10.78.1.1\": the prefix length is missing"), "{reason}");
}

#[test]
fn a_fenced_node_is_off_and_not_unclean() {
    let state = state("fenced");
    let node = state.node("n2").unwrap();
    assert!(!node.online && !node.unclean);
    let [event] = state.fencings.as_slice() else { panic!("{:#?}", state.fencings) };
    assert_eq!((event.target.as_str(), event.action.as_str(), event.status.as_str()), ("n2", "reboot", "success"));
}

#[test]
fn modes_are_seen() {
    assert!(state("maintenance").maintenance);
    assert!(state("standby").node("n1").unwrap().standby);
    assert!(state("maintenance").instances.iter().any(|one| !one.managed));
}

#[test]
fn groups_and_devices_of_another_cluster_are_read() {
    let state = state("drbd");
    assert_eq!(state.nodes_in_role("p_drbd", "Promoted"), ["n2"]);
    assert_eq!(state.nodes_in_role("p_fs", "Started"), ["n2"]);
    assert_eq!(state.node("n1").unwrap().score("p_drbd"), Some(10_000));
    let agents: Vec<_> = state.instances.iter().map(|one| one.agent.as_str()).collect();
    assert!(agents.contains(&"ocf:linbit:drbd") && agents.contains(&"stonith:fence_vmhost"), "{agents:?}");
}

/// The names that Pacemaker had before 2.1, those that came later, fail counts, and nodes that are containers.
#[test]
fn other_versions_are_read() {
    let text = "<pacemaker-result><summary><current_dc present=\"false\"/><cluster_options fencing-enabled=\"false\"/>\
        </summary><nodes><node name=\"a\" online=\"true\"/><node name=\"b-0\" id_as_resource=\"b-docker-0\"/></nodes>\
        <resources><clone id=\"c\"><resource id=\"r:0\" resource_agent=\"ocf::x:y\" role=\"Master\" removed=\"true\">\
        <node name=\"a\"/></resource></clone></resources><node_history><node name=\"a\">\
        <resource_history id=\"r:0\" migration-threshold=\"3\" fail-count=\"3\"/>\
        <resource_history id=\"s\" migration-threshold=\"1000000\" fail-count=\"INFINITY\"/>\
        <resource_history id=\"t\" migration-threshold=\"3\" fail-count=\"2\"/></node></node_history></pacemaker-result>";
    let state = Monitored::parse(text).unwrap();
    assert_eq!((state.dc.as_ref(), state.quorum, state.fencing, state.nodes.len()), (None, false, false, 1));
    let instance = &state.instances[0];
    assert_eq!(
        (instance.resource.as_str(), instance.agent.as_str(), instance.role.as_str()),
        ("r", "ocf:x:y", "Promoted")
    );
    assert!(instance.orphaned && instance.managed);
    let banned: Vec<_> = state.counts.iter().map(|one| (one.resource.as_str(), one.banned)).collect();
    assert_eq!(banned, [("r", true), ("s", true), ("t", false)]);
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error_and_no_empty_state() {
    let text = "<pacemaker-result><status code=\"102\" message=\"Not connected\"><errors/></status></pacemaker-result>";
    let error = format!("{:#}", Monitored::parse(text).unwrap_err());
    assert!(error.contains("Not connected"), "{error}");
}

/// Every prefix, and every byte in turn made another, of a real document: read or refused, and nothing else.
#[test]
fn any_bytes_are_read_or_refused() {
    let whole = text("wrong-list.crm_mon.xml");
    for end in (0..whole.len()).step_by(37) {
        assert!(Monitored::parse(&String::from_utf8_lossy(&whole.as_bytes()[..end])).is_err(), "{end} bytes");
    }
    for place in (0..whole.len()).step_by(11) {
        for byte in [b'<', b'"', b'&', 0, 0xff] {
            let mut bytes = whole.clone().into_bytes();
            bytes[place] = byte;
            let _ = Monitored::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn only_what_says_the_role_says_that_it_is_not_promoted() {
    let told = |operations: &[(&str, &str)]| {
        let history = operations.iter().zip(1..).fold(String::new(), |text, ((task, rc), call)| {
            format!("{text}<operation_history call=\"{call}\" task=\"{task}\" rc=\"{rc}\"/>")
        });
        is_not_promoted(&Element::parse(&format!("<resource_history id=\"pg\">{history}</resource_history>")).unwrap())
    };
    for operations in [
        &[("demote", "0")][..],
        &[("start", "0"), ("monitor", "190")],
        &[("monitor", "8"), ("stop", "0")],
        &[("reload-agent", "0"), ("monitor", "0")],
    ] {
        assert!(told(operations), "{operations:?}");
    }
    for operations in [
        &[][..],
        &[("demote", "1")],
        &[("start", "0"), ("promote", "0")],
        &[("start", "0"), ("promote", "1")],
        &[("monitor", "0"), ("monitor", "8")],
        // The monitor that found it promoted was cancelled.
        &[("reload-agent", "0")],
        &[("reload-agent", "0"), ("monitor", "191")],
        // Pacemaker keeps a degraded answer until somebody cleans up: this one is of the standby that it was once.
        &[("monitor", "190"), ("reload-agent", "0")],
    ] {
        assert!(!told(operations), "{operations:?}");
    }
}

/// As crm_mon --exclude=all --include=summary,failcounts has it of Pacemaker 2.1.5.
#[test]
fn a_failure_without_an_operation_is_counted() {
    let text = "<pacemaker-result><summary><nodes_configured number=\"2\"/></summary><node_history><node name=\"n1\">\
        <resource_history id=\"mount\" orphan=\"false\" migration-threshold=\"1000000\" fail-count=\"1000000\"/></node>\
        </node_history></pacemaker-result>";
    let count = FailCount { node: "n1".into(), resource: "mount".into(), count: "1000000".into(), banned: true };
    assert_eq!(Monitored::parse(text).unwrap().counts, [count]);
}
