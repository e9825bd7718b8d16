//! The whole of a pair in guests, as `hvmail_ha configure` prints it: DRBD, file systems on it, PostgreSQL, the addresses, the
//! services, each behind the one before; and clients outside. PostgreSQL's data is on each guest's own disk and replicated by
//! streaming, as GreenArrow has it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::chain_outages::Outages;
use super::chain_setup::{configuration, databases, furnish, of_peers};
use super::chain_volumes::Volumes;
use super::drbd;
use super::drbd_pair::{Contender, Pair};
use super::guest::Guest;
use super::message;
use super::outside::Outside;
use super::rack::Rack;
use crate::cib::{Cib, Role};
use crate::command::Output;
use crate::contender::PGSQL_STATE;
use crate::greenarrow::SMTP;
use crate::isolation::{Isolation, enter};
use crate::node::Held;
use crate::observer::Observer;
use crate::port_watch::PortWatch;
use crate::postgres::{self, DIRECTORY, HOME_IN_NODE, USER, USUAL};
use crate::sql_writer::Writer;
use crate::{network, packages, wait};

/// The agents of the chain and the operator's program, by package.
pub const PACKAGES: &[&str] = &["drbd", "postgresql", "primary-ips", "services", "hvmail-ha"];

/// How many addresses it has.
pub const ADDRESSES: u16 = 20;

/// How long the chain may take to become what it should be; every link of it takes an emulated processor some seconds.
const SETTLE: Duration = Duration::from_secs(300);

/// How long the peers' may: its twenty addresses come one after the other.
const PEERS_SETTLE: Duration = Duration::from_secs(600);

/// How long one of the operator's commands may take.
const COMMAND: Duration = Duration::from_secs(300);

/// Where each guest's Pacemaker says what it does.
const PACEMAKER_LOG: &str = "/var/log/pacemaker/pacemaker.log";

/// A client asks each address so often.
const PING: Duration = Duration::from_millis(100);

/// Whose agents run the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agents {
    /// This project's, as its operator's program configures them.
    Own {
        /// The DRBD resources beside r0.
        beside: &'static [drbd::Resource],
        /// With GreenArrow's services at its end.
        services: bool,
    },
    /// ocf:linbit:drbd, ocf:heartbeat:pgsql and an ocf:heartbeat:IPaddr2 for each address.
    Peers,
}

/// The pair and its clients.
#[derive(Debug)]
pub struct Chain {
    /// Whose agents they are.
    pub agents: Agents,
    /// The cluster, r0, the file system on it and what is written there.
    pub pair: Pair,
    /// All of DRBD.
    pub volumes: Volumes,
    /// A client of the database, through the first address.
    pub writer: Writer,
    /// One who pings all the addresses.
    pub pings: Observer,
    /// A client of the SMTP server at the first address, where there are services.
    pub mail: Option<PortWatch>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    _outside: Outside,
}

/// Runs `body` isolated, with a chain of all of this project's agents that has these DRBD resources beside r0.
pub fn with_chain(beside: &'static [drbd::Resource], body: impl FnOnce(&Chain) -> Result<()>) -> Result<()> {
    if std::process::id() != 1 {
        packages::require(packages::CLUSTER)?;
        postgres::tree(USUAL)?;
    }
    enter(Isolation::Guests(PACKAGES), || {
        postgres::put_in_place(USUAL)?;
        let chain = Chain::start(Agents::Own { beside, services: true }, 1)?;
        body(&chain).with_context(|| chain.dump())
    })
}

impl Agents {
    pub(super) fn has_services(self) -> bool {
        matches!(self, Self::Own { services: true, .. })
    }
}

impl Chain {
    /// Starts the guests, of so many processors each, with everything on them, and waits until all is up. The servers of
    /// PostgreSQL have to be in their place ([`postgres::put_in_place`]).
    pub fn start(agents: Agents, processors: u8) -> Result<Self> {
        network::ip("link set lo up\n")?;
        let servers = databases(agents)?;
        let tree = postgres::tree(USUAL)?;
        let mut trees: Vec<(&Path, String)> = vec![(&tree, DIRECTORY.to_owned())];
        trees.extend(servers.iter().map(|one| (Path::new(one.home()), format!("/seed/{}", one.name))));
        let trees: Vec<_> = trees.iter().map(|(tree, place)| (*tree, place.as_str())).collect();
        let rack = Rack::start_with(2, processors, &trees)?;
        let outside = Outside::start(&rack.outside)?;
        let addresses = network::service_ipv4(ADDRESSES);
        rack.each(|guest| furnish(agents, guest, &addresses))?;
        let volumes = Volumes::of_r0_and(match agents {
            Agents::Own { beside, .. } => beside,
            Agents::Peers => &[],
        });
        volumes.lay_down(&rack)?;
        let pair = match agents {
            Agents::Own { services, .. } => {
                // A cluster that starts waits 20 s for others to speak up, unless it is told otherwise.
                let bare = |_| Cib::default().property("dc-deadtime", "1s");
                let pair = Pair::with(rack, Contender::Greenarrow, bare)?;
                pair.cluster.wait_quorum(2).with_context(|| pair.cluster.dump())?;
                pair.cluster.load_text(&configuration(&pair.cluster.rack, &volumes, services)?)?;
                pair
            }
            Agents::Peers => Pair::with(rack, Contender::Linbit, |cib| of_peers(cib, &servers, &addresses))?,
        };
        let (writer, pings) = (Writer::start(addresses[0])?, Observer::start(&addresses, PING)?);
        let smtp = SocketAddr::new(addresses[0], SMTP);
        let mail = agents.has_services().then(|| PortWatch::start(smtp, PING)).transpose()?;
        let chain = Self { agents, pair, volumes, writer, pings, mail, addresses, _outside: outside };
        chain.healthy().with_context(|| chain.dump())?;
        Ok(chain)
    }

    /// Waits until everything is where the file system is, replicated to the other guest, and used by the clients, and the
    /// cluster has nothing to do.
    pub fn healthy(&self) -> Result<&Guest> {
        let asked = Instant::now();
        let mut last = String::new();
        let healthy = || {
            last = self.ill(asked).unwrap_or_else(|error| Some(format!("{error:#}"))).unwrap_or_default();
            Ok(last.is_empty())
        };
        let waited = wait::until("a healthy chain", self.patience(), self.pair.cluster.step, healthy);
        waited.with_context(|| format!("last seen: {last}"))?;
        self.pair.healthy()?;
        Ok(self.pair.primary()?.0)
    }

    fn patience(&self) -> Duration {
        match self.agents {
            Agents::Own { .. } => SETTLE,
            Agents::Peers => PEERS_SETTLE,
        }
    }

    /// What is not as it should be at the moment.
    fn ill(&self, asked: Instant) -> Result<Option<String>> {
        let (primary, secondary) = self.pair.primary()?;
        for (guest, expected) in [(primary, self.addresses.len()), (secondary, 0)] {
            let held = self.held(guest)?;
            if held != expected {
                return Ok(Some(format!("{} has {held} addresses, {expected} expected", guest.name)));
            }
        }
        if let Some(ill) = self.volumes.ill(primary, secondary)? {
            return Ok(Some(ill));
        }
        if let Some(ill) = self.services_ill(primary, secondary, asked)? {
            return Ok(Some(ill));
        }
        let (state, with_standby) = match self.agents {
            Agents::Own { services: true, .. } => ("sync", &["pg", "ips", "mail"][..]),
            Agents::Own { .. } => ("sync", &["pg", "ips"][..]),
            Agents::Peers => ("async", &["pg"][..]),
        };
        let asked_for = format!("state = 'streaming' AND sync_state = '{state}'");
        let standbys = sql(primary, &format!("SELECT count(*) FROM pg_stat_replication WHERE {asked_for}"))?;
        if standbys != "1" {
            return Ok(Some(format!("{standbys} standbys stream from {}", primary.name)));
        }
        let silent = self.pings.silent(asked).len();
        if silent > 0 || !self.writer.wrote(asked) {
            return Ok(Some(format!("{silent} addresses do not answer, or nothing is written to the database")));
        }
        let status = self.pair.cluster.status().context("no node answers about the cluster")?;
        let bad: Vec<_> = status.failures.iter().filter(|one| !one.is_degraded()).collect();
        if !bad.is_empty() {
            return Ok(Some(format!("failed: {bad:?}")));
        }
        let mut with_standby =
            self.volumes.primitives().into_iter().chain(with_standby.iter().map(ToString::to_string));
        let lacks = with_standby.find(|one| status.in_role(one, Role::Unpromoted) != [secondary.name.as_str()]);
        if let Some(one) = lacks {
            return Ok(Some(format!("{one} is not unpromoted on {}", secondary.name)));
        }
        let kept_away = self.kept_away()?;
        Ok((!kept_away.is_empty()).then(|| format!("DRBD's handlers keep the role away: {kept_away:?}")))
    }

    /// What is not as it should be of the services: they run on one guest, and a client is greeted by that one.
    fn services_ill(&self, primary: &Guest, secondary: &Guest, asked: Instant) -> Result<Option<String>> {
        let Some(mail) = &self.mail else { return Ok(None) };
        let greeted = mail.answered_since(asked).map(|(_, greeting)| greeting);
        if !greeted.as_ref().is_some_and(|greeting| greeting.contains(&primary.name)) {
            return Ok(Some(format!("the SMTP server of {} does not answer: {greeted:?}", primary.name)));
        }
        // 1: none.
        let left = secondary.command(&["pgrep", "-af", "tcpserver|hvmail_init"]).run()?;
        Ok((left.code() != Some(1)).then(|| format!("services run on {}: {}", secondary.name, left.all())))
    }

    /// The DRBD resources whose handlers have placed a constraint.
    pub fn kept_away(&self) -> Result<Vec<&'static str>> {
        let constraints = self.pair.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?;
        let placed = |name: &&str| constraints.contains(&format!("\"drbd-fence-by-handler-{name}-"));
        Ok(self.volumes.resources.iter().map(|one| one.name).filter(placed).collect())
    }

    /// How many of the addresses a guest has.
    fn held(&self, guest: &Guest) -> Result<usize> {
        let text = guest.text(&["ip", "-o", "addr", "show"])?;
        let held = text.lines().map(Held::parse).collect::<Result<Vec<_>>>()?;
        Ok(held.iter().filter(|one| self.addresses.contains(&one.address)).count())
    }

    /// Waits until everything is on `guest`, and used there.
    pub fn serves(&self, guest: &Guest) -> Result<()> {
        let mut last = String::new();
        let serves = || {
            last = match self.pair.primary() {
                Ok((primary, _)) if primary.name == guest.name => match self.held(guest) {
                    Ok(held) if held == self.addresses.len() => return Ok(true),
                    held => format!("addresses: {held:?}"),
                },
                other => format!("the file system: {:?}", other.map(|(primary, _)| &primary.name)),
            };
            Ok(false)
        };
        let waited = wait::until(&format!("{} to serve", guest.name), self.patience(), self.pair.cluster.step, serves);
        waited.with_context(|| format!("last seen: {last}"))?;
        self.pair.goes_on()?;
        let asked = Instant::now();
        let greeted = || self.mail.as_ref().is_none_or(|mail| mail.answered_since(asked).is_some());
        let used = || Ok(self.writer.wrote(asked) && self.pings.silent(asked).is_empty() && greeted());
        wait::until("the clients to be served", SETTLE, wait::QUICK, used).map(drop)
    }

    /// All that the clients and the stream were told is safe has to be there. Says how much that is.
    pub fn nothing_lost(&self, primary: &Guest) -> Result<String> {
        let (records, files) = (self.pair.stream.nothing_lost(primary)?, self.volumes.nothing_lost(primary)?);
        let acknowledged = self.writer.acknowledged();
        let rows = sql(primary, "SELECT id FROM audit")?;
        let there: BTreeSet<u64> = rows.lines().filter_map(|row| row.parse().ok()).collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        ensure!(!acknowledged.is_empty(), "no row was written, so none could be lost");
        ensure!(lost.is_empty(), "{} of {} acknowledged rows are lost: {lost:?}", lost.len(), acknowledged.len());
        Ok(format!("{} rows acknowledged, {} there; {records}; {files}", acknowledged.len(), there.len()))
    }

    /// What the clients have seen from `began` on.
    pub fn outages(&self, began: Instant) -> Outages {
        Outages {
            database: self.writer.outage(began),
            addresses: self.pings.outage(began, Instant::now()).worst,
            file_system: self.pair.stream.outage(began),
            mail: self.mail.as_ref().map(|mail| mail.outage(began, Instant::now())),
        }
    }

    /// The promoted roles move to the other guest, as an administrator without the operator's commands moves them.
    pub fn switchover(&self) -> Result<Outages> {
        let (began, (_, secondary), clone) = (Instant::now(), self.pair.primary()?, self.volumes.first_clone());
        self.pair.cluster.move_to(&clone, true, secondary)?;
        self.serves(secondary)?;
        let outages = self.outages(began);
        self.pair.cluster.wait_idle()?;
        self.pair.cluster.clear(&clone)?;
        self.pair.fenced(began, &[])?;
        Ok(outages)
    }

    /// The operator gives the role away on the guest that has it; the command's words go to `tell`.
    pub fn make_secondary(&self, tell: impl Fn(&str)) -> Result<Outages> {
        let (primary, secondary) = self.pair.primary()?;
        self.commanded(primary, "hvmail_make_secondary", secondary, tell)
    }

    /// The operator takes the role on the guest that has not got it.
    pub fn make_primary(&self, tell: impl Fn(&str)) -> Result<Outages> {
        let (_, secondary) = self.pair.primary()?;
        self.commanded(secondary, "hvmail_make_primary", secondary, tell)
    }

    fn commanded(&self, here: &Guest, command: &str, target: &Guest, tell: impl Fn(&str)) -> Result<Outages> {
        let began = Instant::now();
        let words = here.watch(&[command])?;
        let ended = loop {
            let left = COMMAND.saturating_sub(began.elapsed());
            let word = words.recv_timeout(left).with_context(|| format!("{command} has not ended"))?;
            if word.word != message::LINE {
                break word.text(0)?;
            }
            tell(&word.text(0)?);
        };
        ensure!(ended == "0", "{command} ended with status {ended}, as wait(2) has it");
        let (now, _) = self.pair.primary()?;
        ensure!(now.name == target.name, "{command} ended before {} was Primary", target.name);
        self.serves(target)?;
        let outages = self.outages(began);
        self.pair.fenced(began, &[])?;
        Ok(outages)
    }

    /// One of the operator's commands, which may fail.
    pub fn command(&self, guest: &Guest, argv: &[&str]) -> Result<Output> {
        guest.command(argv).within(COMMAND).run()
    }

    /// Whether the guest with everything is the one whose controller decides for the cluster (DC).
    pub fn primary_decides(&self) -> Result<bool> {
        let status = self.pair.cluster.status().context("no node answers about the cluster")?;
        Ok(status.dc.as_ref() == Some(&self.pair.primary()?.0.name))
    }

    /// The guest with everything loses its power: it is fenced, and the other serves.
    pub fn killed(&self) -> Result<Outages> {
        let (began, (primary, secondary)) = (Instant::now(), self.pair.primary()?);
        primary.power_cut()?;
        self.serves(secondary)?;
        let outages = self.outages(began);
        self.pair.fenced(began, &[&primary.name])?;
        Ok(outages)
    }

    /// The results that Pacemaker has waited for in vain, as the guests' logs have it: for their action's timeout and
    /// cluster-delay (60 s), in which it does nothing else (`action_timer_callback`, `controld_te_callbacks.c`).
    pub fn given_up(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for guest in self.pair.cluster.nodes.iter().filter(|guest| guest.is_on()) {
            let found = guest.command(&["grep", "-aE", "did not send .* result", PACEMAKER_LOG]).run()?;
            // 1: no such line.
            ensure!(matches!(found.code(), Some(0 | 1)), "{}: {}", guest.name, found.all());
            lines.extend(found.stdout.lines().map(|line| format!("{}: {line}", guest.name)));
        }
        Ok(lines)
    }

    /// Forgets failures, as an administrator does after a fault.
    pub fn cleanup(&self) -> Result<()> {
        self.pair.cluster.tool(&["crm_resource", "--cleanup"]).map(drop)
    }

    /// Waits until all is as it was before a planned switchover. heartbeat:pgsql has its old primary start again only when an
    /// administrator has taken its PGSQL.lock away.
    pub fn mended(&self) -> Result<()> {
        if self.agents == Agents::Peers {
            let (_, old) = self.pair.primary()?;
            old.text(&["rm", "-f", &format!("{PGSQL_STATE}/PGSQL.lock")])?;
            self.cleanup()?;
        }
        self.healthy().map(drop)
    }

    /// What helps to understand a failure: the cluster's view, the agents' words, and the servers' last ones.
    pub fn dump(&self) -> String {
        let mut text = self.pair.cluster.dump();
        let agents = "(drbd|postgresql|primary-ips|services|Filesystem)\\([a-z-]+\\)|pacemaker-(controld|schedulerd).*(notice|warning|error)";
        for guest in self.pair.cluster.nodes.iter().filter(|guest| guest.is_on()) {
            for argv in
                [&["tail", "-n", "30", "/var/log/ocf-postgresql.log"][..], &["grep", "-aE", agents, PACEMAKER_LOG]]
            {
                let output = guest.command(argv).within(Duration::from_secs(20)).run();
                let shown = output.map_or_else(|error| format!("{error:#}"), |output| output.all());
                text += &format!("== {}: {}\n{shown}\n", guest.name, argv[0]);
            }
        }
        text
    }
}

/// Asks a guest's database.
pub fn sql(guest: &Guest, sql: &str) -> Result<String> {
    let words = ["setpriv", "--reuid", USER, "--regid", "nogroup", "--clear-groups", "--"];
    let psql = format!("{DIRECTORY}/bin/psql");
    let rest = [&psql, "-h", HOME_IN_NODE, "-XAtqd", "postgres", "-c", sql];
    Ok(guest.text(&[&words[..], &rest].concat())?.trim().to_owned())
}
