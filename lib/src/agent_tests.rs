//! Whole runs of an agent, in this process.

use super::*;
use crate::action::Advertised;
use crate::parameter::{Content, Parameter};

/// Does what its one parameter tells it to.
struct Obedient {
    order: String,
}

impl Obedient {
    fn obey(&self) -> Done {
        match self.order.as_str() {
            "fail" => Err(Failure::not_installed("line one\nline two")),
            "panic" => panic!("out of {}", "cheese"),
            _ => Ok(()),
        }
    }
}

impl Agent for Obedient {
    const ABOUT: About = About {
        provider: "test",
        name: "obedient",
        version: "1",
        revised: "2026-11-22",
        short: "Obeys",
        long: "Obeys.",
        parameters: &[
            Parameter { name: "order", default: Some("none"), short: "Order", long: "Order.", ..Parameter::TEXT },
            Parameter { name: "n", content: Content::Integer(1, 2), default: Some("1"), ..Parameter::TEXT },
        ],
        actions: &[Advertised::new(Action::Start, 7)],
        sections: &[],
    };

    fn configure(values: &Values) -> Self {
        Self { order: values.text("order").unwrap_or_default().to_owned() }
    }
    fn start(&self, _: &Run) -> Done {
        self.obey()
    }
    fn stop(&self, _: &Run) -> Done {
        self.obey()
    }
    fn monitor(&self, _: &Run) -> Found {
        self.obey()?;
        Ok(match self.order.as_str() {
            "stopped" => Finding::plain(State::NotRunning, "stopped"),
            "degraded" => Finding::because(State::DegradedPromoted, "no carrier on eth0"),
            _ => Finding::plain(State::RunningPromoted, "promoted"),
        })
    }
    fn promote(&self, run: &Run) -> Done {
        assert!(run.lock_if_free().unwrap().is_none(), "promote runs without the lock");
        Ok(())
    }
    fn demote(&self, _: &Run) -> Done {
        self.obey()
    }
    fn notify(&self, _: &Run, _: &Notification) {
        panic!("a notification without variables reached the agent");
    }
    fn reload(&self, _: &Run) -> Done {
        Ok(())
    }
    fn validate(&self, _: &Run, level: u32) -> Done {
        if level == 10 { Err(Failure::generic("level 10 was asked for")) } else { Ok(()) }
    }
    fn background(&self, _: &Run) -> Done {
        Ok(())
    }
}

fn run(variables: &[(&str, &str)], arguments: &[&str]) -> u8 {
    let directory = std::env::temp_dir().join(format!("ocf-agent-{}", std::process::id()));
    let own = [("HA_RSCTMP", directory.to_str().unwrap()), ("HA_LOGFACILITY", "none")];
    // A test of its own instance, so that no two tests wait for each other's lock.
    let instance = format!("{:?}", std::thread::current().id());
    let instance = [("OCF_RESOURCE_INSTANCE", instance.as_str())];
    let all = own.iter().chain(&instance).chain(variables);
    let environment = Environment::from_variables(all.map(|(name, value)| (name.into(), value.into())));
    answer::<Obedient>(environment, arguments.iter().map(OsString::from))
}

fn order(order: &str, action: &str) -> u8 {
    run(&[("OCF_RESKEY_order", order)], &[action])
}

#[test]
fn each_outcome_has_its_exit_status() {
    assert_eq!(order("", "start"), 0);
    assert_eq!(order("fail", "start"), 5);
    assert_eq!(order("", "monitor"), 8);
    assert_eq!(order("stopped", "monitor"), 7);
    assert_eq!(order("degraded", "monitor"), 191);
}

#[test]
fn an_unknown_action_is_exit_3_and_no_action_exit_2() {
    assert_eq!(run(&[], &["migrate_to"]), 3);
    assert_eq!(run(&[], &[]), 2);
}

#[test]
fn a_panic_is_a_failure_of_the_action_and_no_more() {
    assert_eq!(order("panic", "start"), 1);
    assert_eq!(order("panic", "monitor"), 1);
}

#[test]
fn wrong_parameters_stop_a_start_and_never_a_stop_or_a_monitor() {
    let wrong = [("OCF_RESKEY_n", "3")];
    assert_eq!(run(&wrong, &["start"]), 6);
    assert_eq!(run(&wrong, &["promote"]), 6);
    assert_eq!(run(&wrong, &["monitor"]), 8);
    assert_eq!(run(&wrong, &["stop"]), 0);
    assert_eq!(run(&wrong, &["demote"]), 0);
}

#[test]
fn the_command_line_overrides_the_environment() {
    assert_eq!(run(&[("OCF_RESKEY_n", "3")], &["start", "-o", "n=2"]), 0);
}

#[test]
fn promote_holds_the_lock_and_gives_it_back() {
    assert_eq!(order("", "promote"), 0);
    assert_eq!(order("", "promote"), 0);
}

#[test]
fn notify_without_variables_does_nothing_and_succeeds() {
    assert_eq!(order("", "notify"), 0);
}

#[test]
fn validate_all_looks_at_the_node_unless_told_not_to() {
    assert_eq!(run(&[], &["validate-all"]), 1);
    assert_eq!(run(&[("OCF_CHECK_LEVEL", "0")], &["validate-all"]), 0);
}

#[test]
fn a_timeout_of_pacemakers_counts_before_the_advertised_one() {
    let start = |variables: &[(&str, &str)]| {
        let pairs = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Run::new::<Obedient>(Action::Start, Environment::from_variables(pairs)).deadline.budget()
    };
    assert_eq!(start(&[("OCF_RESKEY_CRM_meta_timeout", "100000")]), Duration::from_secs(97));
    assert_eq!(start(&[]), Duration::from_millis(6300));
}
