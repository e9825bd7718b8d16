use super::*;
use crate::captured::picture;

#[test]
fn the_document_has_its_members() {
    let value: serde_json::Value = serde_json::from_str(&json(&picture("wrong-list")).unwrap()).unwrap();
    let members: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "schema",
        "time",
        "node",
        "status",
        "primary",
        "quorum",
        "fencing",
        "maintenance",
        "stopped_on",
        "addresses_equal",
        "pacemaker",
        "nodes",
        "findings",
        "failed_actions",
        "fencing_history",
        "leftover_constraints",
        "not_seen",
    ];
    expected.sort_unstable();
    let mut sorted = members.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!((value["schema"].as_u64(), value["status"].as_str()), (Some(1), Some("warning")));
    assert_eq!((value["primary"].as_str(), value["addresses_equal"].as_bool()), (Some("n1"), Some(false)));
    let [first, second] = &value["nodes"].as_array().unwrap()[..] else { panic!("{value}") };
    assert_eq!((first["name"].as_str(), first["timeline"].as_u64()), (Some("n1"), Some(2)));
    assert_eq!((second["role"].as_str(), second["addresses_listed"].as_u64()), (Some("Secondary"), Some(1)));
    assert_eq!(second["obstacles"][0]["overridden_by"].as_str(), Some("--force"));
    assert_eq!(second["resources"].as_array().unwrap().len(), 3);
    assert_eq!(value["failed_actions"][1]["exit_status"].as_u64(), Some(190));
    assert_eq!(value["findings"][0]["severity"].as_str(), Some("warning"));
}

#[test]
fn the_addresses_of_each_list_are_counted() {
    let picture = crate::captured::two_lists();
    let value: serde_json::Value = serde_json::from_str(&json(&picture).unwrap()).unwrap();
    let [first, second] = &value["nodes"].as_array().unwrap()[..] else { panic!("{value}") };
    assert_eq!((first["addresses_listed"].as_u64(), second["addresses_listed"].as_u64()), (Some(6), Some(5)));
    let of = |node: &serde_json::Value, name: &str| {
        let mut all = node["resources"].as_array().unwrap().iter();
        all.find(|one| one["name"] == name).unwrap()["addresses_listed"].as_u64()
    };
    assert_eq!(
        (of(first, "ips"), of(first, "ips2"), of(second, "ips2"), of(first, "pg")),
        (Some(4), Some(2), Some(1), None)
    );
    assert_eq!(value["addresses_equal"].as_bool(), Some(false));
    let metrics = prometheus(Some(&picture));
    assert!(metrics.contains("hvmail_ha_addresses_listed{node=\"n2\",resource=\"ips2\"} 1\n"), "{metrics}");
}

#[test]
fn every_member_of_the_document_is_in_the_manual() {
    let help = crate::command_line::command(crate::command_line::Name::Ha);
    let help = help.find_subcommand("status").unwrap().clone().render_help().to_string();
    let value: serde_json::Value = serde_json::from_str(&json(&picture("wrong-list")).unwrap()).unwrap();
    let mut names: Vec<String> = Vec::new();
    let mut left = vec![&value];
    while let Some(value) = left.pop() {
        match value {
            serde_json::Value::Object(members) => {
                names.extend(members.keys().cloned());
                left.extend(members.values());
            }
            serde_json::Value::Array(all) => left.extend(all),
            _ => {}
        }
    }
    assert!(names.len() > 30);
    for name in names {
        assert!(help.contains(&name), "{name} is not explained");
    }
}

#[test]
fn a_nagios_answer_is_one_line_with_its_performance_data() {
    assert_eq!(
        nagios(&picture("healthy")),
        "HVMAIL_HA OK - n1 is Primary | nodes_online=2;;;0;2 primaries=1;;;0;1 failed=0;;;0 degraded=0;;;0 leftovers=0;;;0"
    );
    let stopped = nagios(&picture("stopped"));
    assert!(
        stopped.starts_with("HVMAIL_HA CRITICAL - no node is Primary; no node is Primary: hvmail_make_sec"),
        "{stopped}"
    );
    let mut evil = picture("wrong-list");
    evil.state.failures[0].reason = Some("a|b\nc".to_owned());
    assert_eq!((nagios(&evil).matches('|').count(), nagios(&evil).lines().count()), (1, 1));
}

#[test]
fn prometheus_gets_every_metric_once_with_its_help() {
    let text = prometheus(Some(&picture("fenced")));
    for line in [
        "hvmail_ha_up 1",
        "hvmail_ha_status 1",
        "hvmail_ha_primary{node=\"n1\"} 1",
        "hvmail_ha_node_online{node=\"n2\"} 0",
        "hvmail_ha_promotion_score{node=\"n1\",resource=\"pg\"} 100",
        "hvmail_ha_findings{severity=\"critical\"} 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
    }
    assert!(prometheus(None).contains("hvmail_ha_up 0\n") && prometheus(None).contains("hvmail_ha_status 3\n"));
    assert_eq!(labels(&[("node", "a\"b\\\n")]), "{node=\"a\\\"b\\\\\\n\"}");
}
