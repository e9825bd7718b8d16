//! fence-peer: DRBD has lost a peer, or is to become Primary without it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ocf::{Deadline, Log, Program};

use crate::Verdict;
use crate::change::{Change, Wanted, apply};
use crate::cib::{Cib, with_settings};
use crate::disks::Disks;
use crate::options::Options;
use crate::situation::{Peers, Standing, decide, standing};

/// Between two looks at a cluster that is about to fence a peer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a peer's controller may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) fn fence(options: &Options, log: &Log) -> Result<Verdict> {
    let cib = Cib::local(Deadline::after(options.dc_timeout))?;
    let wanted = wanted(options, &cib)?;
    if cib.constraints.get(&wanted.id).is_some_and(|there| same(there, &wanted)) {
        log.info(&format!("the constraint {} is in place already", wanted.id));
        return Ok(Verdict::Outdated);
    }
    not_rejected(options, &cib, &wanted)?;
    let (cib, peers) = if known_to_be_fenced(options, &cib) {
        (cib, Peers { all_reachable: false, all_fenced: true })
    } else {
        watch(options, log)?
    };
    quorate(&cib)?;
    let disks = Disks::look(options)?;
    let (place, verdict) = decide(disks, peers);
    log.info(&format!("{peers:?}, {disks:?}: {verdict:?}, {} constraint", if place { "with a" } else { "without a" }));
    if !place {
        return Ok(verdict);
    }
    self::place(options, log, cib)?;
    Ok(checked_again(options, log, verdict))
}

/// Whether nobody has barred this node: the other was faster, or has been promoted, and this one's data is the old one.
fn not_rejected(options: &Options, cib: &Cib, wanted: &Wanted) -> Result<()> {
    if cib.constraints.get(&wanted.id).is_some_and(|there| there.rejects(&options.own, cib)) {
        bail!("the constraint {} is there and rejects this node; nothing is changed", wanted.id);
    }
    Ok(())
}

fn quorate(cib: &Cib) -> Result<()> {
    if !cib.quorum {
        bail!("this partition of the cluster has no quorum; no constraint is placed");
    }
    Ok(())
}

/// The constraint as it is to be.
pub(crate) fn wanted(options: &Options, cib: &Cib) -> Result<Wanted> {
    let clone = options.clone.clone().or_else(|| cib.clones.get(&options.resource).cloned());
    let clone =
        clone.with_context(|| format!("no promotable clone of the cluster has drbd_resource={}", options.resource))?;
    let means = |(number, node): (u32, String)| {
        let (attribute, value) = cib.means(&node, &options.attribute);
        (number, attribute, value)
    };
    let spared: Vec<_> = options.included().into_iter().map(means).collect();
    if spared.is_empty() {
        bail!("no node is said to have good data; a constraint would reject all");
    }
    let prefix = options.prefix();
    Ok(Wanted { id: format!("{prefix}-{clone}"), prefix, clone, role: options.role.clone(), spared })
}

/// Whether it bars just what is wanted: all but the ids is compared.
pub(crate) fn same(there: &crate::cib::Constraint, wanted: &Wanted) -> bool {
    let role = |name: &str| if name.eq_ignore_ascii_case("Master") { "Promoted".to_owned() } else { name.to_owned() };
    let bars = there.clone == wanted.clone && there.role.as_deref().map(role) == Some(role(&wanted.role));
    let mut spared: Vec<_> =
        wanted.spared.iter().map(|(_, attribute, value)| (attribute.clone(), value.clone())).collect();
    let mut found = there.spared.clone();
    spared.sort();
    found.sort();
    bars && !there.foreign && spared == found
}

/// Whether this node's own copy says so of every peer. Nobody else has to be asked then: the controller writes that after the deed
/// and before it has anything promoted, and a promotion would wait for the answer.
fn known_to_be_fenced(options: &Options, cib: &Cib) -> bool {
    let excluded = options.excluded().unwrap_or_else(|| only_other(options, cib));
    !excluded.is_empty() && excluded.iter().all(|node| by_the_cluster(cib, node) == Standing::Fenced)
}

/// Looks at the peers until all that matters is known, or the time is over.
fn watch(options: &Options, log: &Log) -> Result<(Cib, Peers)> {
    let (begun, deadline) = (Instant::now(), Deadline::after(options.timeout));
    loop {
        let cib = Cib::of_the_cluster(Deadline::after(options.dc_timeout))?;
        let excluded = options.excluded().unwrap_or_else(|| only_other(options, &cib));
        let id = wanted(options, &cib)?.id;
        let rejected = |node: &&String| cib.constraints.get(&id).is_some_and(|there| there.rejects(node, &cib));
        let open: Vec<&String> = excluded.iter().filter(|node| !rejected(node)).collect();
        let standings: Vec<Standing> = open.iter().map(|node| look(&cib, node)).collect();
        log.info(&format!("peers {open:?}: {standings:?}"));
        let all = |one| standings.iter().all(|standing| *standing == one) && !excluded.is_empty();
        let peers = Peers { all_reachable: all(Standing::Online), all_fenced: all(Standing::Fenced) };
        // A link may come back by itself.
        if peers.all_reachable && begun.elapsed() < options.hiccup {
            std::thread::sleep(options.hiccup.saturating_sub(begun.elapsed()));
            continue;
        }
        // A peer that nobody knows may be the one that shoots this node: it is given the time to.
        let undecided = excluded.is_empty() || standings.contains(&Standing::Undecided);
        if !undecided || !deadline.sleep(LOOK_AGAIN) {
            return Ok((cib, peers));
        }
    }
}

/// 8.4 does not say who the peer is where it has no name for it; in a pair it is the other node.
fn only_other(options: &Options, cib: &Cib) -> Vec<String> {
    let others: Vec<String> =
        cib.nodes.keys().filter(|node| !node.eq_ignore_ascii_case(&options.own)).cloned().collect();
    if others.len() == 1 { others } else { Vec::new() }
}

fn look(cib: &Cib, node: &str) -> Standing {
    match by_the_cluster(cib, node) {
        // The cluster may not have noticed yet.
        Standing::Online if !answers(node) => Standing::Undecided,
        standing => standing,
    }
}

fn by_the_cluster(cib: &Cib, node: &str) -> Standing {
    let state = cib.states.iter().find(|(name, _)| name.eq_ignore_ascii_case(node)).map(|(_, state)| state);
    standing(state, cib.fencing, cib.startup_fencing)
}

/// Whether the controller of that node answers, which a dead or cut-off one does not.
fn answers(node: &str) -> bool {
    let words = [format!("--status={node}"), format!("--timeout={}s", ANSWER.as_secs()), "--output-as=xml".to_owned()];
    let output =
        with_settings(Program::new("crmadmin").args(words)).run(Deadline::after(ANSWER + Duration::from_secs(2)));
    output.is_ok_and(|output| output.status.success())
}

/// Places the constraint, or restricts the one that is there further; never lifts a restriction.
fn place(options: &Options, log: &Log, mut cib: Cib) -> Result<()> {
    let deadline = Deadline::after(options.dc_timeout);
    loop {
        let Some(wanted) = restricted(options, &cib)? else { return Ok(()) };
        match apply(&cib, &wanted.id, Some(&wanted), deadline)? {
            Change::Made => {
                log.info(&format!("constraint {} placed", wanted.id));
                return Ok(());
            }
            Change::Overtaken if deadline.passed() => {
                bail!("the cluster changes faster than a constraint can be placed")
            }
            Change::Overtaken => cib = Cib::of_the_cluster(deadline)?,
        }
    }
}

/// The constraint that is to be placed: it spares nobody whom the one that is there does not. None: that one is as good.
fn restricted(options: &Options, cib: &Cib) -> Result<Option<Wanted>> {
    quorate(cib)?;
    let mut wanted = wanted(options, cib)?;
    not_rejected(options, cib, &wanted)?;
    let Some(there) = cib.constraints.get(&wanted.id) else { return Ok(Some(wanted)) };
    wanted.spared.retain(|(_, attribute, value)| there.spared.contains(&(attribute.clone(), value.clone())));
    Ok(Some(wanted).filter(|wanted| !same(there, wanted)))
}

/// The link may have come back while the constraint was placed: then it would keep a good node away.
fn checked_again(options: &Options, log: &Log, verdict: Verdict) -> Verdict {
    let well = matches!(verdict, Verdict::Outdated | Verdict::Stonithed)
        && Disks::look(options).is_ok_and(|disks| disks.peers_up_to_date);
    if !well {
        return verdict;
    }
    log.warning("all peers are UpToDate again; the constraint is taken back");
    match crate::unfence::take_away(options, log) {
        Ok(()) => Verdict::Failed,
        Err(error) => {
            log.warning(&format!("{error:#}"));
            verdict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cib::tests::CIB;

    fn options(own: &str) -> Options {
        let environment = |name: &str| match name {
            "DRBD_RESOURCE" => Some("r0".to_owned()),
            _ => None,
        };
        let mut read = Options::read(["fence".to_owned()].into_iter(), &environment).unwrap().unwrap();
        own.clone_into(&mut read.own);
        read
    }

    #[test]
    fn the_constraint_has_the_names_of_linbits_handler() {
        let cib = Cib::parse(CIB).unwrap();
        let one = wanted(&options("n1"), &cib).unwrap();
        assert_eq!(one.id, "drbd-fence-by-handler-r0-mail-clone");
        assert_eq!(one.spared, [(0, "#uname".to_owned(), "n1".to_owned())]);
        assert!(same(&cib.constraints[&one.id], &one), "a constraint of linbit's handler is the same");
        assert!(!same(&cib.constraints[&one.id], &wanted(&options("n2"), &cib).unwrap()));
        // One of this id that somebody has changed bars no promotion, or not on each node that it should.
        let rule = r#"role="Master" score="-INFINITY""#;
        for (was, is) in [
            (rule, r#"role="Started" score="-INFINITY""#),
            (rule, r#"score="-INFINITY""#),
            (rule, r#"role="Master" score="-1000""#),
            (rule, r#"role="Master" boolean-op="or" score="-INFINITY""#),
            (r#"rsc="mail-clone""#, r#"rsc="other-clone""#),
            (r#"operation="ne""#, r#"operation="eq""#),
            ("</rule></rsc_location>", "</rule><rule id=\"z\" score=\"INFINITY\"/></rsc_location>"),
            ("</rule></rsc_location>", "<date_expression id=\"d\" operation=\"lt\"/></rule></rsc_location>"),
        ] {
            let changed = CIB.replace(was, is);
            assert_ne!(changed, CIB);
            let changed = Cib::parse(&changed).unwrap();
            assert!(!same(&changed.constraints[&one.id], &one), "{is}");
        }
        for role in [r#"role="Promoted" score="-INFINITY""#, r#"boolean-op="and" role="Master" score="-INFINITY""#] {
            let spelled = Cib::parse(&CIB.replace(rule, role)).unwrap();
            assert!(same(&spelled.constraints[&one.id], &one), "{role}");
        }
        // It is replaced, by the node that it does not reject only.
        let bars_less = Cib::parse(&CIB.replace(rule, r#"role="Started" score="-INFINITY""#)).unwrap();
        assert_eq!(restricted(&options("n1"), &bars_less).unwrap().as_ref(), Some(&one));
        let mut unknown = options("n1");
        "r9".clone_into(&mut unknown.resource);
        assert!(wanted(&unknown, &cib).unwrap_err().to_string().contains("drbd_resource=r9"));
        assert_eq!(only_other(&options("n1"), &cib), ["n2"]);
    }

    #[test]
    fn who_is_known_to_be_fenced_is_not_asked_for() {
        let known = |own: &str, cib: &str| known_to_be_fenced(&options(own), &Cib::parse(cib).unwrap());
        let n2 = r#"in_ccm="0" crmd="0" join="down" expected="down""#;
        assert!(known("n1", CIB) && !known("n2", CIB), "n2 was fenced, and n1 is online");
        for other in [r#"in_ccm="0" crmd="0" expected="member""#, r#"in_ccm="1" crmd="1" expected="member""#] {
            assert!(!known("n1", &CIB.replace(n2, other)), "{other}");
        }
        // Of three, one is not known.
        let third = CIB.replace("</nodes>", r#"<node id="3" uname="n3"/></nodes>"#);
        assert!(third != CIB && !known("n1", &third));
    }

    /// DRBD's numbers (drbd_nl.c, `conn_try_outdate_peer`).
    #[test]
    fn the_statuses_are_those_that_drbd_knows() {
        let numbers = [Verdict::Outdated, Verdict::Unreachable, Verdict::Stonithed, Verdict::Failed];
        assert_eq!(numbers.map(|verdict| verdict as u8), [4, 5, 7, 1]);
    }

    #[test]
    fn a_constraint_is_placed_with_quorum_and_by_whom_it_does_not_reject() {
        let of = |own: &str, cib: &str| restricted(&options(own), &Cib::parse(cib).unwrap());
        let location = CIB.find(" <rsc_location").unwrap()..CIB.find("</constraints>").unwrap();
        let none = CIB.replace(&CIB[location], "");
        assert_eq!(of("n1", CIB).unwrap(), None, "as good as it is");
        assert_eq!(of("n1", &none).unwrap().map(|wanted| wanted.spared.len()), Some(1));
        assert_eq!(of("n2", &none).unwrap().map(|wanted| wanted.spared[0].2.clone()), Some("n2".to_owned()));
        let rejected = of("n2", CIB).unwrap_err().to_string();
        assert!(rejected.contains("rejects this node; nothing is changed"), "{rejected}");
        let alone = none.replace(r#"have-quorum="1""#, r#"have-quorum="0""#);
        let refused = of("n1", &alone).unwrap_err().to_string();
        assert!(refused.contains("has no quorum; no constraint is placed"), "{refused}");
    }

    /// DRBD 9 says that n1 and n2 have good data, and a constraint that is there spares n1 only.
    #[test]
    fn who_is_barred_already_stays_so() {
        let environment = |name: &str| match name {
            "DRBD_RESOURCE" => Some("r0".to_owned()),
            "UP_TO_DATE_NODES" => Some("0x3".to_owned()),
            "DRBD_NODE_ID_0" => Some("n1".to_owned()),
            "DRBD_NODE_ID_1" => Some("n2".to_owned()),
            _ => None,
        };
        let mut nine = Options::read(["fence".to_owned()].into_iter(), &environment).unwrap().unwrap();
        "n1".clone_into(&mut nine.own);
        let cib = Cib::parse(CIB).unwrap();
        assert_eq!(wanted(&nine, &cib).unwrap().spared.len(), 2);
        assert_eq!(restricted(&nine, &cib).unwrap(), None, "the one that is there bars n2 as well");
    }
}
