use super::*;

/// A promotable instance of that role with five addresses, all of them up if it is active, and nothing wrong.
fn sound(role: Option<Role>) -> Facts {
    Facts {
        promotable: true,
        role,
        expected: 5,
        up: if role == Some(Role::Active) { 5 } else { 0 },
        up_named: "192.0.2.1/24 on eth0".to_owned(),
        drift: None,
        fault: None,
        change: None,
        unready: None,
        no_carrier: None,
        peer_differs: None,
        duplicates: None,
        repair_drift: true,
        apply_changes: true,
        check_link: CheckLink::Degraded,
    }
}

fn plain(facts: Facts) -> Facts {
    Facts { promotable: false, ..facts }
}

#[expect(clippy::unnecessary_wraps, reason = "what the facts hold is optional")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The exit status OCF has for it, the deed, and the reason.
fn outcome(facts: &Facts) -> (u8, Deed, String) {
    let Judgement { verdict, deed } = judge(facts);
    match verdict {
        Verdict::Failed(reason) => (1, deed, reason),
        Verdict::Found(state, reason) => {
            let status = match state {
                State::Running => 0,
                State::NotRunning => 7,
                State::RunningPromoted => 8,
                State::FailedPromoted => 9,
                State::Degraded => 190,
                State::DegradedPromoted => 191,
            };
            (status, deed, reason.join("; "))
        }
    }
}

fn says(facts: &Facts, status: u8, deed: Deed, reason: &str) {
    let (found, done, why) = outcome(facts);
    assert_eq!((found, done), (status, deed), "{facts:?}: {why}");
    assert!(why.contains(reason) && why.is_empty() == reason.is_empty(), "{why:?} does not say {reason:?}");
}

#[test]
fn what_nobody_started_and_is_not_there_is_stopped() {
    says(&sound(None), 7, Deed::None, "");
    says(&plain(sound(None)), 7, Deed::None, "");
    says(&Facts { fault: some("broken"), expected: 0, ..sound(None) }, 7, Deed::None, "");
}

#[test]
fn the_whole_set_added_by_somebody_else_is_adopted() {
    says(&Facts { up: 5, ..sound(None) }, 8, Deed::Adopt, "");
    says(&plain(Facts { up: 5, ..sound(None) }), 0, Deed::Adopt, "");
}

#[test]
fn a_part_of_the_set_that_nobody_started_is_a_failure_that_a_stop_mends() {
    let part = Facts { up: 2, drift: some("3 are missing"), ..sound(None) };
    says(&part, 9, Deed::None, "2 of 5 addresses are up although this instance was not started");
    says(&plain(part), 1, Deed::None, "A stop takes them away");
    let faulty = Facts { up: 5, fault: some("line 7 is wrong"), ..sound(None) };
    says(&faulty, 9, Deed::None, "line 7 is wrong");
    let astray = Facts { up: 5, drift: some("one is on eth1"), ..sound(None) };
    says(&astray, 9, Deed::None, "one is on eth1");
}

#[test]
fn an_unpromoted_instance_is_sound_without_addresses_and_failed_with_one() {
    says(&sound(Some(Role::Unpromoted)), 0, Deed::None, "");
    says(&Facts { up: 1, ..sound(Some(Role::Unpromoted)) }, 9, Deed::None, "although this instance is unpromoted");
    says(&Facts { up: 5, ..sound(Some(Role::Unpromoted)) }, 9, Deed::None, "192.0.2.1/24 on eth0");
}

#[test]
fn whatever_would_hinder_a_failover_degrades_an_unpromoted_instance() {
    let standby = || sound(Some(Role::Unpromoted));
    says(&Facts { fault: some("line 3"), ..standby() }, 190, Deed::None, "line 3");
    says(&Facts { unready: some("no eth1"), ..standby() }, 190, Deed::None, "no eth1");
    says(&Facts { peer_differs: some("ga1 has 501"), ..standby() }, 190, Deed::None, "ga1 has 501");
    let unplugged = Facts { no_carrier: some("eth0 has no carrier"), ..standby() };
    says(&unplugged, 190, Deed::None, "no carrier");
    // There is nothing to move away from a standby.
    says(&Facts { check_link: CheckLink::Fail, ..unplugged.clone() }, 190, Deed::None, "no carrier");
    says(&Facts { check_link: CheckLink::Off, ..unplugged }, 0, Deed::None, "");
    let two = Facts { fault: some("line 3"), peer_differs: some("ga1 has 501"), ..standby() };
    says(&two, 190, Deed::None, "line 3; ga1 has 501");
}

#[test]
fn an_active_instance_with_every_address_is_sound() {
    says(&sound(Some(Role::Active)), 8, Deed::None, "");
    says(&plain(sound(Some(Role::Active))), 0, Deed::None, "");
    // What other nodes' lists say is theirs to report.
    says(&Facts { peer_differs: some("ga2 has 4"), ..sound(Some(Role::Active)) }, 8, Deed::None, "");
}

#[test]
fn drift_is_repaired_or_fails_as_the_parameter_says() {
    let drifted = Facts { up: 4, drift: some("192.0.2.1 is missing"), ..sound(Some(Role::Active)) };
    says(&drifted, 191, Deed::Repair, "192.0.2.1 is missing");
    says(&plain(drifted.clone()), 190, Deed::Repair, "192.0.2.1 is missing");
    let strict = Facts { repair_drift: false, ..drifted };
    says(&strict, 9, Deed::None, "192.0.2.1 is missing; on_drift=fail");
    says(&plain(strict.clone()), 1, Deed::None, "on_drift=fail");
    let all_gone = Facts { up: 0, ..strict };
    says(&all_gone, 9, Deed::None, "on_drift=fail");
    says(&plain(all_gone), 7, Deed::None, "192.0.2.1 is missing");
}

#[test]
fn a_changed_file_is_applied_or_reported_as_the_parameter_says() {
    let changed = Facts { change: some("one line more"), ..sound(Some(Role::Active)) };
    says(&changed, 8, Deed::Apply, "");
    says(&Facts { apply_changes: false, ..changed }, 191, Deed::None, "one line more; a reload takes it up");
}

#[test]
fn a_wrong_file_changes_nothing_and_degrades() {
    says(&Facts { fault: some("line 3"), ..sound(Some(Role::Active)) }, 191, Deed::None, "line 3");
    says(&plain(Facts { fault: some("line 3"), ..sound(Some(Role::Active)) }), 190, Deed::None, "line 3");
}

#[test]
fn a_lost_carrier_means_what_check_link_says() {
    let unplugged = Facts { no_carrier: some("eth0 has no carrier"), ..sound(Some(Role::Active)) };
    says(&unplugged, 191, Deed::None, "no carrier");
    says(&Facts { check_link: CheckLink::Off, ..unplugged.clone() }, 8, Deed::None, "");
    let strict = Facts { check_link: CheckLink::Fail, ..unplugged };
    says(&strict, 9, Deed::None, "check_link=fail");
    says(&plain(strict), 1, Deed::None, "check_link=fail");
}

#[test]
fn a_duplicate_degrades_and_repair_comes_before_every_report() {
    let doubled = Facts { duplicates: some("02:00:00:00:00:09 has it too"), ..sound(Some(Role::Active)) };
    says(&doubled, 191, Deed::None, "has it too");
    let all = Facts { drift: some("one is missing"), change: some("one line more"), up: 4, ..doubled };
    says(&all, 191, Deed::Repair, "one is missing");
}
