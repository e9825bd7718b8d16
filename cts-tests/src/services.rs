//! services in the test's own namespaces: how it is called there, and /proc as the witness of what it did.

use anyhow::Result;

use crate::agent::{self, Agent};
use crate::command::reap_orphans;
use crate::daemontools::Places;
use crate::greenarrow::Tree;
use crate::supervision::{AMPLE, Supervision};
use crate::{process, wait};

/// The agent.
const NAME: &str = "services";

/// The resource's name; the agent's state files carry it.
pub const INSTANCE: &str = "mail";

/// Where the agent's state is in the private /run.
pub const STATE_FILE: &str = "/run/resource-agents/services-mail.state";

/// How the agent's `down` files begin; those of others are empty here.
const GUARD: &str = "Boot guard of ocf:greenarrow:services";

/// Runs `body` in private namespaces ([`agent::in_private_network`]) where this tree is on disk and nothing of it runs.
pub fn beside(tree: &Tree, body: impl FnOnce(&Supervision) -> Result<()>) -> Result<()> {
    agent::in_private_network(&[NAME], || {
        reap_orphans()?;
        let services = Supervision::here(tree.places.clone());
        services.lay_down(&tree.items())?;
        body(&services)
    })
}

/// services in a promotable clone.
pub fn promotable() -> Result<Agent> {
    Agent::promotable_of(NAME, INSTANCE).map(of_the_tree)
}

/// services as a plain resource.
pub fn plain() -> Result<Agent> {
    Agent::plain_of(NAME, INSTANCE).map(of_the_tree)
}

/// services as a person calls it.
pub fn by_hand() -> Result<Agent> {
    Agent::by_hand_of(NAME, INSTANCE).map(of_the_tree)
}

/// With the private tree, a svscan that the agent starts, and a short time to settle.
fn of_the_tree(agent: Agent) -> Agent {
    let places = Places::private();
    let agent = agent.set("service_dir", &places.scan).set("svscan", "start").set("settle_time", "300ms");
    let agent = agent.set("mta_control", &places.program("hvmail_init"));
    agent.set("status_command", &places.program("greenarrow_status")).witness(|| {
        let all = Supervision::here(Places::private()).processes()?;
        Ok(format!("these processes belong to the services: {all:#?}"))
    })
}

/// Whether the agent's guard keeps a service, `NAME` or `NAME/log`, from starting by itself.
pub fn guarded(services: &Supervision, name: &str) -> Result<bool> {
    Ok(services.read(&format!("{}/down", services.places().home(name)))?.starts_with(GUARD))
}

/// Tells supervises to take services down, and waits until they say that they are: /proc knows it some milliseconds before.
pub fn take_down(services: &Supervision, names: &[&str]) -> Result<()> {
    services.svc("-d", names)?;
    knows(services, names, |pid| pid.is_none())
}

/// Tells supervises to bring services up, and waits until they say that they are.
pub fn bring_up(services: &Supervision, names: &[&str]) -> Result<()> {
    services.svc("-u", names)?;
    knows(services, names, |pid| pid.is_some())
}

fn knows(services: &Supervision, names: &[&str], wanted: impl Fn(Option<u32>) -> bool) -> Result<()> {
    let all = || names.iter().try_fold(true, |all, name| Ok(all && wanted(services.svstat(name)?.pid)));
    wait::until(&format!("supervise to have done what it was told: {names:?}"), AMPLE, wait::QUICK, all).map(drop)
}

/// The processes of steady services by their command line alone: those in a directory that was unmounted are among them.
pub fn sleepers() -> Result<Vec<u32>> {
    let all = process::of_namespace(std::process::id())?;
    Ok(all.into_iter().filter(|pid| process::arguments(*pid) == ["sleep", "infinity"]).collect())
}
