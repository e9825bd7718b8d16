//! What is played alike with the nodes of the first rig and the guests of the second: addresses that follow a promoted role move
//! by plan and by power cut, and come back after the power of both members was cut. What one kind of member would hide, the
//! other shows: nodes share a kernel, and guests are slow.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cib::Role;
use crate::cluster::SETTLE;
use crate::fence::Fencing;
use crate::node::Held;
use crate::observer::Observer;
use crate::pacemaker::{Member, Pacemaker};
use crate::subject::Subject;
use crate::wait;

/// A cluster of two members, with a promotable clone that carries addresses.
pub struct Played<'a, M> {
    /// The members.
    pub cluster: &'a Pacemaker<M>,
    /// The clone, and its addresses.
    pub subject: &'a Subject,
    /// Who pings them from outside.
    pub observer: &'a Observer,
    /// Whom the power switch has cut off since then.
    pub fencings: &'a dyn Fn(Instant) -> Vec<Fencing>,
}

type Scenario<'a, M> = fn(&Played<'a, M>) -> Result<()>;

impl<M: Member> Played<'_, M> {
    /// All of it, one after the other.
    pub fn all(&self) -> Result<()> {
        let began = Instant::now();
        self.healthy().context("the start")?;
        println!("start: healthy after {:.1} s", began.elapsed().as_secs_f64());
        let scenarios: [(&str, Scenario<M>); 3] = [
            ("planned move", Played::planned_move),
            ("power cut", Played::power_cut),
            ("power cut of both", Played::power_cut_of_both),
        ];
        for (name, scenario) in scenarios {
            let began = Instant::now();
            scenario(self).context(name)?;
            let outage = self.observer.outage(began, Instant::now()).worst.as_secs_f64();
            println!("{name}: outage {outage:.2} s, healthy after {:.1} s", began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// The role is asked for on the other member; nobody is fenced, and nothing fails.
    fn planned_move(&self) -> Result<()> {
        let (began, before) = (Instant::now(), self.healthy()?);
        let (peer, id) = (self.cluster.peer(before)?, self.subject.main.id());
        self.cluster.move_to(&id, true, peer)?;
        self.carries(peer)?;
        self.cluster.wait_idle()?;
        self.cluster.clear(&id)?;
        ensure!(self.healthy()?.name() == peer.name(), "the addresses did not stay on {}", peer.name());
        self.fenced(began, &[])?;
        let failures = self.cluster.status().context("no member answers about the cluster")?.failures;
        ensure!(failures.is_empty(), "actions failed: {failures:#?}");
        Ok(())
    }

    /// The member with the addresses is fenced once, the other carries them, and it comes back.
    fn power_cut(&self) -> Result<()> {
        let (began, before) = (Instant::now(), self.healthy()?);
        let peer = self.cluster.peer(before)?;
        before.power_cut()?;
        self.carries(peer)?;
        self.healthy()?;
        self.fenced(began, &[before.name()])
    }

    /// Afterwards one of them carries the addresses, whoever it is.
    fn power_cut_of_both(&self) -> Result<()> {
        self.healthy()?;
        self.cluster.nodes.iter().try_for_each(|member| member.power_cut())?;
        self.cluster.nodes.iter().try_for_each(|member| member.boot())?;
        self.healthy().map(drop)
    }

    fn fenced(&self, since: Instant, expected: &[&str]) -> Result<()> {
        let fenced = (self.fencings)(since);
        let targets: Vec<&str> = fenced.iter().map(|one| one.target.as_str()).collect();
        ensure!(targets == expected, "{expected:?} were to be fenced: {fenced:#?}");
        Ok(())
    }

    /// Waits until this member has all addresses, the other none, and each answers.
    fn carries(&self, member: &M) -> Result<()> {
        let carries = || Ok(self.carrier().is_some_and(|one| one.name() == member.name()));
        wait::until(&format!("{} to carry the addresses", member.name()), SETTLE, self.cluster.step, carries)?;
        self.answering()
    }

    /// Waits until both are online with nothing left to do, one of them is promoted and has every address, which all answer.
    fn healthy(&self) -> Result<&Arc<M>> {
        self.cluster.wait_quorum(2)?;
        let (mut found, mut seen) = (None, String::new());
        let healthy =
            wait::until("one member to be promoted and carry the addresses", SETTLE, self.cluster.step, || {
                self.cluster.wait_idle()?;
                found = self.carrier();
                let (Some(carrier), Some(status)) = (found, self.cluster.status()) else { return Ok(false) };
                seen = format!("{:?}", status.instances);
                let (id, other) = (self.subject.primitive(), self.cluster.peer(carrier)?);
                Ok(status.in_role(id, Role::Promoted) == [carrier.name()]
                    && status.in_role(id, Role::Unpromoted) == [other.name()])
            });
        healthy.with_context(|| format!("instances: {seen}"))?;
        self.answering()?;
        found.context("no member carries the addresses")
    }

    /// The one member that has every address while no other has any.
    fn carrier(&self) -> Option<&Arc<M>> {
        let mut carrier = None;
        for member in self.cluster.nodes.iter().filter(|member| member.is_on()) {
            match self.held(member) {
                // It dies, or is not up yet.
                Err(_) | Ok(0) => {}
                Ok(count) if count == self.subject.addresses.len() && carrier.is_none() => carrier = Some(member),
                Ok(_) => return None,
            }
        }
        carrier
    }

    fn held(&self, member: &M) -> Result<usize> {
        let text = member.text(&["ip", "-o", "addr", "show"])?;
        let held: BTreeSet<IpAddr> = text.lines().map(|line| Ok(Held::parse(line)?.address)).collect::<Result<_>>()?;
        Ok(self.subject.addresses.iter().filter(|address| held.contains(address)).count())
    }

    fn answering(&self) -> Result<()> {
        let since = Instant::now();
        let answered = || Ok(self.observer.all_answered(since).is_some());
        let answered = wait::until("every address to answer ping", Duration::from_secs(20), wait::QUICK, answered);
        answered.map(drop).with_context(|| format!("silent: {:?}", self.observer.silent(since)))
    }
}
