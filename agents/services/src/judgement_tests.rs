use super::*;

fn unit(name: &str, condition: Condition) -> UnitFacts {
    UnitFacts {
        name: name.into(),
        log: name.ends_with("/log"),
        normally_down: false,
        critical: false,
        unguarded: false,
        condition,
    }
}

fn critical(name: &str, condition: Condition) -> UnitFacts {
    UnitFacts { critical: true, ..unit(name, condition) }
}

fn normally_down(name: &str, condition: Condition) -> UnitFacts {
    UnitFacts { normally_down: true, ..unit(name, condition) }
}

fn facts(role: Option<Role>, units: &[UnitFacts]) -> Facts {
    Facts {
        promotable: true,
        role,
        units: units.to_vec(),
        place: "/service".into(),
        fault: None,
        wrong: None,
        no_svscan: None,
        outside: Vec::new(),
        boot_guard: true,
    }
}

fn active(units: &[UnitFacts]) -> Facts {
    facts(Some(Role::Active), units)
}

/// The state with its reason; None for a monitor that failed.
fn state(facts: &Facts) -> (Option<State>, String) {
    match judge(facts).0 {
        Ok(finding) => (Some(finding.state), finding.reason.unwrap_or_default()),
        Err(failure) => (None, failure.reason().to_owned()),
    }
}

fn absent() -> Condition {
    Condition::Fault(Fault::Absent("/service/a is a link to /x, which is not there".into()))
}

fn broken() -> Condition {
    Condition::Fault(Fault::Broken("/service/a/run is missing".into()))
}

#[test]
fn the_condition_of_one_service_among_others_decides_as_the_table_says() {
    use Condition as C;
    let promoted = Some(State::RunningPromoted);
    let degraded = Some(State::DegradedPromoted);
    let broken_off = Some(State::FailedPromoted);
    // Condition, what it makes of the resource, the same of a critical service, and a word of the reason.
    let table = [
        (C::Up, promoted, promoted, ""),
        (C::Restarted, degraded, degraded, "was started again"),
        (C::Flapping(60), degraded, broken_off, "ended twice within 60 s"),
        (C::Paused, degraded, broken_off, "is paused; svc -c"),
        (C::WantedDown, degraded, degraded, "would not be started again"),
        (C::Unsupervised(7), degraded, degraded, "process 7, but its supervise is dead"),
        (
            C::Obscured(7, "/service/a is gone".into()),
            degraded,
            degraded,
            "process 7, and its supervise cannot be asked",
        ),
        (C::Doubled(7), degraded, degraded, "runs twice"),
        (C::Down, degraded, broken_off, "is down, although"),
        (C::TakenDown, degraded, broken_off, "svc -u brings it up"),
        (C::SuperviseRestarted, degraded, degraded, "its supervise was started anew"),
        (C::Dead, degraded, broken_off, "no supervise runs for it"),
        (C::Lost(7, "no link".into()), degraded, broken_off, "its supervise cannot be asked: no link"),
        (C::Gone, degraded, broken_off, "is gone from the scan directory"),
        (absent(), degraded, broken_off, "which is not there"),
        (broken(), degraded, broken_off, "run is missing"),
    ];
    for (condition, usual, fatal, word) in table {
        let (found, reason) = state(&active(&[unit("a", condition.clone()), unit("b", C::Up)]));
        assert_eq!(found, usual, "{condition:?}");
        assert!(reason.contains(word), "{condition:?}: {reason}");
        let (found, reason) = state(&active(&[critical("a", condition.clone()), unit("b", C::Up)]));
        assert_eq!(found, fatal, "critical, {condition:?}");
        assert!(reason.contains(word), "{condition:?}: {reason}");
        let plain = Facts { promotable: false, ..active(&[critical("a", condition.clone()), unit("b", C::Up)]) };
        assert_eq!(state(&plain).0.is_none(), fatal == broken_off, "critical, plain, {condition:?}");
    }
}

#[test]
fn without_a_single_service_the_resource_has_failed() {
    let down = [unit("a", Condition::TakenDown), unit("b", absent()), unit("a/log", Condition::Up)];
    let (found, reason) = state(&active(&down));
    assert_eq!(found, Some(State::FailedPromoted));
    assert!(reason.starts_with("none of the services in /service runs: a was taken down"), "{reason}");
    assert_eq!(state(&active(&[])).0, Some(State::FailedPromoted));
}

#[test]
fn a_service_that_is_normally_down_is_wrong_when_it_runs() {
    let up = unit("a", Condition::Up);
    assert_eq!(state(&active(&[up.clone(), normally_down("d", Condition::TakenDown)])).0, Some(State::RunningPromoted));
    assert_eq!(state(&active(&[up.clone(), normally_down("d", broken())])).0, Some(State::RunningPromoted));
    let (found, reason) = state(&active(&[up, normally_down("d", Condition::Up)]));
    assert_eq!(found, Some(State::DegradedPromoted));
    assert!(reason.contains("d is up, but is normally down"), "{reason}");
}

#[test]
fn only_what_a_dead_supervise_has_left_is_brought_up_again() {
    let up = unit("a", Condition::Up);
    for (condition, deed) in [
        (Condition::SuperviseRestarted, Deed::Revive),
        (Condition::Doubled(7), Deed::Revive),
        (Condition::TakenDown, Deed::None),
        (Condition::Down, Deed::None),
        (Condition::Unsupervised(7), Deed::None),
    ] {
        assert_eq!(judge(&active(&[up.clone(), unit("b", condition.clone())])).1, deed, "{condition:?}");
        assert_eq!(judge(&active(&[up.clone(), normally_down("b", condition)])).1, Deed::None);
    }
}

#[test]
fn a_stopped_instance_is_stopped_adopted_or_a_failure() {
    let (a, down) = (unit("a", Condition::Up), unit("b", Condition::TakenDown));
    let stopped = facts(None, &[unit("a", Condition::Dead), down.clone(), unit("c", absent())]);
    assert_eq!((state(&stopped).0, judge(&stopped).1), (Some(State::NotRunning), Deed::None));
    let all = facts(None, &[a.clone(), normally_down("b", Condition::TakenDown)]);
    assert_eq!((state(&all).0, judge(&all).1), (Some(State::RunningPromoted), Deed::Adopt));
    let some = facts(None, &[a.clone(), down.clone()]);
    let (found, reason) = state(&some);
    assert_eq!((found, judge(&some).1), (Some(State::FailedPromoted), Deed::None));
    assert!(reason.contains("a runs although this instance was not started"), "{reason}");
    assert_eq!(state(&Facts { promotable: false, ..some }).0, None);
    // A log by itself is running too: certainly stopped is something else.
    assert_eq!(state(&facts(None, &[down, unit("b/log", Condition::Up)])).0, Some(State::FailedPromoted));
}

#[test]
fn an_unpromoted_instance_is_ready_with_directories_that_are_elsewhere() {
    let standby = |units: &[UnitFacts]| facts(Some(Role::Unpromoted), units);
    let (found, _) = state(&standby(&[unit("a", Condition::TakenDown), unit("b", absent())]));
    assert_eq!(found, Some(State::Running));
    let (found, reason) = state(&standby(&[unit("a", Condition::TakenDown), unit("b", broken())]));
    assert_eq!(found, Some(State::Degraded));
    assert!(reason.contains("run is missing"), "{reason}");
    for running in [Condition::Up, Condition::Unsupervised(7), Condition::Paused] {
        let (found, reason) = state(&standby(&[unit("a", running), unit("b", Condition::TakenDown)]));
        assert_eq!(found, Some(State::FailedPromoted));
        assert!(reason.contains("a runs although this instance is unpromoted"), "{reason}");
    }
    let (found, _) = state(&standby(&[unit("a", Condition::TakenDown), unit("a/log", Condition::Up)]));
    assert_eq!(found, Some(State::Degraded));
}

#[test]
fn missing_guards_are_put_back_unless_nobody_wants_them() {
    let bare = UnitFacts { unguarded: true, ..unit("a", Condition::TakenDown) };
    let standby = facts(Some(Role::Unpromoted), std::slice::from_ref(&bare));
    let (found, reason) = state(&standby);
    assert_eq!((found, judge(&standby).1), (Some(State::Degraded), Deed::Guard));
    assert!(reason.contains("a has no boot guard"), "{reason}");
    let unwanted = Facts { boot_guard: false, ..standby };
    assert_eq!((state(&unwanted).0, judge(&unwanted).1), (Some(State::Running), Deed::None));
    // While they serve, a guard that comes back is nothing to raise the alarm for.
    let promoted = active(&[UnitFacts { unguarded: true, ..unit("a", Condition::Up) }]);
    assert_eq!((state(&promoted).0, judge(&promoted).1), (Some(State::RunningPromoted), Deed::Guard));
}

#[test]
fn what_is_seen_from_outside_degrades_or_fails() {
    let with = |critical| {
        let closed = (critical, "127.0.0.1:25 accepts no connection: refused".to_owned());
        Facts { outside: vec![closed], ..active(&[unit("a", Condition::Up)]) }
    };
    assert_eq!(state(&with(false)).0, Some(State::DegradedPromoted));
    assert_eq!(state(&with(true)).0, Some(State::FailedPromoted));
}

#[test]
fn no_svscan_and_wrong_parameters_degrade_and_make_a_standby_unready() {
    let lone = Facts { no_svscan: Some("no svscan runs".into()), ..active(&[unit("a", Condition::Up)]) };
    assert_eq!(state(&lone).0, Some(State::DegradedPromoted));
    let standby = Facts { wrong: Some("x is wrong".into()), ..facts(Some(Role::Unpromoted), &[]) };
    assert_eq!(state(&standby).0, Some(State::Degraded));
    assert!(standby.unready().is_some() && facts(Some(Role::Unpromoted), &[]).unready().is_none());
}

#[test]
fn a_long_list_is_counted() {
    let many: Vec<UnitFacts> = (0..9).map(|n| unit(&format!("s{n}"), Condition::Restarted)).collect();
    let (_, reason) = state(&active(&many));
    assert!(reason.starts_with("s0 ") && reason.ends_with("; and 8 more, see the log"), "{reason}");
}
