use super::*;
use crate::server::{Follower, Slot, Source};

fn primary() -> Primary {
    let standbys = vec![Follower { name: "n2".into(), streaming: true, synchronous: false }];
    Primary { timeline: 1, lsn: Lsn(100), sync_names: String::new(), standbys, slots: Vec::new() }
}

fn standby() -> Standby {
    Standby {
        timeline: 1,
        own_timeline: 1,
        lsn: Lsn(100),
        replayed: Lsn(100),
        lag: Some(0),
        streaming: true,
        source: None,
        paused: false,
        slots: Vec::new(),
    }
}

fn facts(seen: Seen, role: Option<Role>) -> Facts {
    Facts {
        seen,
        control: None,
        role,
        silence: Duration::from_secs(3600),
        against_primary: None,
        has_streamed: false,
        lacks: None,
        half_record: None,
        was_primary: false,
        disk: None,
        disk_full: false,
        primary: None,
        second_primary: None,
        why_deaf: None,
        slot: None,
        write: None,
        wrong: None,
        follows_somebody: true,
        rejoin: Rejoin::Manual,
        sync: Sync::Off,
        max_lag: None,
        max_slot_wal: None,
    }
}

fn serving() -> Facts {
    facts(Seen::Answering(Said::Primary(primary())), Some(Role::Promoted))
}

fn following(standby: Standby) -> Facts {
    facts(Seen::Answering(Said::Standby(standby)), Some(Role::Unpromoted))
}

fn is(facts: &Facts, state: State, words: &str, fitness: Fitness) {
    let judgement = judge(facts);
    let Verdict::Found(found, reason) = &judgement.verdict else { panic!("{judgement:?}") };
    assert_eq!((*found, judgement.fitness), (state, fitness), "{judgement:?}");
    assert_eq!(reason.is_empty(), words.is_empty(), "{judgement:?}");
    assert!(reason.join("; ").contains(words), "{judgement:?}");
}

#[test]
fn a_healthy_pair() {
    is(&serving(), State::RunningPromoted, "", Fitness::Serving);
    is(&following(standby()), State::Running, "", Fitness::Score(STREAMING));
}

#[test]
fn the_servers_own_word_counts_more_than_what_the_cluster_made_of_it() {
    let by_hand = Facts { role: Some(Role::Unpromoted), ..serving() };
    is(&by_hand, State::DegradedPromoted, "promoted, and not by the cluster", Fitness::Unchanged);
    is(&Facts { role: None, ..serving() }, State::RunningPromoted, "", Fitness::Serving);
    let restarted = Facts { role: Some(Role::Promoted), ..following(standby()) };
    is(&restarted, State::Running, "", Fitness::Score(STREAMING));
}

#[test]
fn no_process_is_stopped_whatever_it_was() {
    is(&facts(Seen::Absent, None), State::NotRunning, "", Fitness::Unchanged);
    is(&facts(Seen::Absent, Some(Role::Promoted)), State::NotRunning, "does not run", Fitness::Failed);
    is(&facts(Seen::Absent, Some(Role::Unpromoted)), State::NotRunning, "does not run", Fitness::Unchanged);
}

#[test]
fn doubt_is_a_failure_and_never_stopped() {
    for seen in [Seen::Orphans(3), Seen::Mute("x".into()), Seen::Closed(Closed::Stopping, "x".into())] {
        for role in [None, Some(Role::Unpromoted)] {
            let judgement = judge(&facts(seen.clone(), role));
            assert!(matches!(judgement.verdict, Verdict::Failed(_)), "{judgement:?}");
        }
        let promoted = judge(&facts(seen, Some(Role::Promoted)));
        assert!(matches!(promoted.verdict, Verdict::Found(State::FailedPromoted, _)), "{promoted:?}");
        assert_eq!(promoted.fitness, Fitness::Failed);
    }
}

#[test]
fn a_living_server_that_lets_nobody_in_is_no_failover() {
    for why in [Closed::Full, Closed::Starting, Closed::Refused] {
        for (control, role, state) in [
            (Some(ClusterState::Production), Some(Role::Promoted), State::DegradedPromoted),
            (Some(ClusterState::Production), None, State::DegradedPromoted),
            (Some(ClusterState::ArchiveRecovery), Some(Role::Unpromoted), State::Degraded),
            (Some(ClusterState::CrashRecovery), Some(Role::Promoted), State::DegradedPromoted),
            (Some(ClusterState::CrashRecovery), Some(Role::Unpromoted), State::Degraded),
            (None, Some(Role::Promoted), State::DegradedPromoted),
            (None, None, State::Degraded),
        ] {
            let facts = Facts { control, ..facts(Seen::Closed(why, "the server says x".into()), role) };
            is(&facts, state, "the server says x", Fitness::Unchanged);
        }
    }
}

#[test]
fn a_primary_without_a_standby_is_degraded_once_one_had_the_time_to_come() {
    let lonely = Primary { standbys: Vec::new(), ..primary() };
    let alone = Facts { seen: Seen::Answering(Said::Primary(lonely)), ..serving() };
    for (sync, words) in [(Sync::Off, "lose"), (Sync::Prefer, "this node alone"), (Sync::Require, "no commit")] {
        is(&Facts { sync, ..alone.clone() }, State::DegradedPromoted, words, Fitness::Serving);
    }
    let young = Facts { silence: Duration::from_secs(3), ..alone.clone() };
    is(&young, State::RunningPromoted, "", Fitness::Serving);
    is(&Facts { follows_somebody: false, ..alone }, State::RunningPromoted, "", Fitness::Serving);
}

#[test]
fn a_primary_beside_another_one_says_so_first() {
    let two = Facts { second_primary: Some("the server at n2 accepts writes too".into()), ..serving() };
    is(&Facts { disk: Some("full".into()), ..two }, State::DegradedPromoted, "too; full", Fitness::Serving);
}

#[test]
fn everything_that_limits_a_failover_is_said_and_lowers_the_score() {
    let lagging = Facts { max_lag: Some(10), ..following(Standby { lag: Some(11), ..standby() }) };
    is(&lagging, State::Degraded, "11 bytes behind; maxlag is 10", Fitness::Score(LAST_RESORT));
    let full = Facts { disk: Some("the disk is full".into()), ..following(standby()) };
    is(&full, State::Degraded, "the disk is full", Fitness::Score(LAST_RESORT));
    let paused = following(Standby { paused: true, ..standby() });
    is(&paused, State::Degraded, "pg_wal_replay_resume", Fitness::Score(LAST_RESORT));
    let parted = Facts { against_primary: Some(Standing::Diverged(Lsn(0x50))), ..following(standby()) };
    is(&parted, State::Degraded, "parted from the primary at 0/50", Fitness::Unfit);
    let stranger = Facts { rejoin: Rejoin::Rewind, against_primary: Some(Standing::Unrelated), ..following(standby()) };
    is(&stranger, State::Degraded, "does not occur", Fitness::Unfit);
    let rewinding = judge(&Facts { rejoin: Rejoin::Rewind, ..parted });
    assert!(matches!(rewinding.verdict, Verdict::Failed(_)) && rewinding.fitness == Fitness::Unfit, "{rewinding:?}");
    let behind = Facts { against_primary: Some(Standing::Behind), ..following(standby()) };
    is(&behind, State::Running, "", Fitness::Score(STREAMING));
}

#[test]
fn a_standby_whose_primary_has_died_is_the_one_that_is_wanted() {
    let deaf = following(Standby { streaming: false, lag: None, ..standby() });
    let bereaved = Facts { has_streamed: true, ..deaf.clone() };
    is(&bereaved, State::Degraded, "does not stream", Fitness::Score(STREAMED));
    is(&deaf, State::Degraded, "does not stream", Fitness::Score(LAST_RESORT));
    is(&Facts { silence: Duration::from_secs(3), ..deaf.clone() }, State::Running, "", Fitness::Score(LAST_RESORT));
    let first = Facts { was_primary: true, ..deaf.clone() };
    is(&first, State::Degraded, "does not stream", Fitness::Score(WAS_PRIMARY));
    is(&Facts { follows_somebody: false, ..deaf }, State::Degraded, "set primary_hosts", Fitness::Score(LAST_RESORT));
}

#[test]
fn a_slot_that_keeps_too_much_and_a_slip_in_a_parameter_degrade() {
    let slots = vec![Slot { name: "ocf_n2".into(), active: false, kept: Some(600) }];
    let seen = Seen::Answering(Said::Primary(Primary { slots, ..primary() }));
    let keeping = Facts { max_slot_wal: Some(1000), seen, ..serving() };
    is(&keeping, State::DegradedPromoted, "slot ocf_n2 keeps 600 bytes", Fitness::Serving);
    is(&Facts { max_slot_wal: Some(2000), ..keeping }, State::RunningPromoted, "", Fitness::Serving);
    let slip = Facts { wrong: Some("maxlag=x is wrong".into()), ..serving() };
    is(&slip, State::DegradedPromoted, "maxlag=x", Fitness::Serving);
}

#[test]
fn a_standby_that_lacks_what_a_primary_wrote_alone_is_not_promoted() {
    let lacks = |seconds| {
        let known = Duration::from_secs(seconds);
        Some(Lack { author: "n1".into(), known, ways_out: "bring n1 back".into() })
    };
    let catching_up = Facts { lacks: lacks(29), ..following(standby()) };
    is(&catching_up, State::Running, "", Fitness::Unfit);
    let lacking = Facts { lacks: lacks(30), ..catching_up };
    is(&lacking, State::Degraded, "n1 wrote what this node lacks, so it is not promoted", Fitness::Unfit);
    // It streams, and so n1 is there: only without it is there anything for a person to do.
    let ways_out = |facts: &Facts| format!("{:?}", judge(facts).verdict).contains("bring n1 back");
    assert!(!ways_out(&lacking));
    assert!(ways_out(&Facts { lacks: lacks(30), ..following(Standby { streaming: false, ..standby() }) }));
}

#[test]
fn a_primary_that_ended_on_a_full_disk_is_not_tried_again_first() {
    let full = |role| Facts { disk: Some("has 0 % free".into()), disk_full: true, ..facts(Seen::Absent, role) };
    is(&full(Some(Role::Promoted)), State::NotRunning, "has 0 % free; the server does not run", Fitness::Hopeless);
    is(&full(Some(Role::Unpromoted)), State::NotRunning, "has 0 % free", Fitness::Unchanged);
    is(&full(None), State::NotRunning, "", Fitness::Unchanged);
    let mute = Facts { seen: Seen::Mute("x".into()), ..full(Some(Role::Promoted)) };
    is(&mute, State::FailedPromoted, "x; has 0 % free", Fitness::Hopeless);
}

#[test]
fn a_standby_streams_from_the_primary_on_its_timeline_and_with_its_slot() {
    let told = Told { node: "n1".into(), address: Some("192.0.2.1".into()), timeline: 3 };
    let source = Source { timeline: 3, host: Some("192.0.2.1".into()), slot: Some("ocf_n2".into()) };
    let of = |source: Source, told: &Told| Facts {
        primary: Some(told.clone()),
        slot: Some("ocf_n2".into()),
        ..following(Standby { source: Some(source), ..standby() })
    };
    let score = Fitness::Score(STREAMING);
    is(&of(source.clone(), &told), State::Running, "", score);
    let elsewhere = Source { host: Some("192.0.2.9".into()), ..source.clone() };
    is(&of(elsewhere, &told), State::Degraded, "streams from 192.0.2.9, and the primary is n1 at 192.0.2.1", score);
    let older = Source { timeline: 2, ..source.clone() };
    is(&of(older, &told), State::Degraded, "streams timeline 2, and that of the primary, n1, is 3", score);
    let slotless = Source { slot: None, ..source.clone() };
    is(&of(slotless.clone(), &told), State::Degraded, "without its slot ocf_n2", score);
    is(&Facts { slot: None, ..of(slotless, &told) }, State::Running, "", score);
    // Before version 11 nobody says whence.
    is(&of(Source { host: None, ..source }, &told), State::Running, "", score);
}

#[test]
fn a_primary_names_a_standby_that_streams_without_its_slot() {
    let seen = |active| {
        let slots = vec![Slot { name: "ocf_n2".into(), active, kept: None }];
        Seen::Answering(Said::Primary(Primary { slots, ..primary() }))
    };
    let without = Facts { slot: Some("ocf_n1".into()), seen: seen(false), ..serving() };
    is(&without, State::DegradedPromoted, "n2 streams without its slot ocf_n2", Fitness::Serving);
    is(&Facts { slot: None, ..without.clone() }, State::RunningPromoted, "", Fitness::Serving);
    is(&Facts { seen: seen(true), ..without }, State::RunningPromoted, "", Fitness::Serving);
}

#[test]
fn half_a_record_at_the_end_of_the_log_is_mended_by_a_start() {
    let half = Facts { half_record: Some(Lsn(0x50)), ..following(standby()) };
    let judgement = judge(&half);
    assert_eq!(judgement.fitness, Fitness::Unfit);
    let Verdict::Failed(reason) = &judgement.verdict else { panic!("{judgement:?}") };
    assert!(reason.contains("half a record at 0/50"), "{reason}");
    // A server that passes the place.
    is(&Facts { silence: Duration::from_secs(29), ..half }, State::Running, "", Fitness::Score(STREAMING));
}
