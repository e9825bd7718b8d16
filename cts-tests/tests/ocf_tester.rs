//! ocf-tester of resource-agents over the real agents, in namespaces of their own: not one word of complaint.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::command::{Output, command, reap_orphans};
use cts_tests::daemontools::Places;
use cts_tests::greenarrow::{ACTIVE, Init, standard_tree};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::Held;
use cts_tests::subject::ip_file;
use cts_tests::supervision::Supervision;
use cts_tests::{installed, network, packages, wait};

/// ocf-tester also calls the agent as nobody, who may not look into a developer's home directory.
const AGENT: &str = "/run/greenarrow/primary-ips";
const SERVICES: &str = "/run/greenarrow/services";
const IP_FILE: &str = "/run/hvmail_primary_ips";
const LIST: &str = "ip_file=/run/hvmail_primary_ips";
const EVENTS: &str = "/run/events";

/// What Pacemaker sends to every agent: with it and without the settings of a clone the resource is a plain one.
const PLAIN: &str = "crm_feature_set=3.16.1";

/// Builds the agent and runs `body` where eth0 has a carrier, fixed addresses and nothing else.
fn beside_eth0(body: impl FnOnce() -> Result<()>) -> Result<()> {
    packages::require(&[packages::CLUSTER, packages::CHECKS].concat())?;
    installed::build(&["primary-ips"])?;
    enter(Isolation::Network, || {
        let (ipv4, ipv6) = (network::node_ipv4(1), network::node_ipv6(1));
        network::ip(&format!(
            "link add eth0 type veth peer name wire\nlink set wire up\nlink set eth0 up\n\
             addr add {ipv4}/{} dev eth0\naddr add {ipv6}/{} dev eth0 nodad\n",
            network::IPV4_PREFIX,
            network::IPV6_PREFIX
        ))?;
        install(AGENT, &fs::read(installed::agent("primary-ips")?)?)?;
        body()
    })
}

fn install(path: &str, content: &[u8]) -> Result<()> {
    fs::create_dir_all(Path::new(path).parent().context("a path without a directory")?)?;
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

fn ocf_tester(agent: &str, parameters: &[&str]) -> Result<Output> {
    let parameters = parameters.iter().flat_map(|parameter| ["-o", parameter]);
    let tester = command(["ocf-tester", "-n", "tested"]).args(parameters).arg(agent).bare_environment();
    tester.within(Duration::from_secs(120)).run()
}

/// Every address that eth0 has had since this began, from the kernel's own announcements.
struct Seen(std::process::Child);

impl Seen {
    fn begin() -> Result<Self> {
        let watch = command(["ip", "-oneline", "monitor", "address"]).daemon(File::create(EVENTS)?)?;
        // It hears nothing before it has subscribed: go on when it has heard something.
        wait::until("ip monitor to hear something", Duration::from_secs(10), wait::QUICK, || {
            network::ip("addr add 127.0.0.2/8 dev lo\naddr del 127.0.0.2/8 dev lo\n")?;
            Ok(fs::metadata(EVENTS)?.len() > 0)
        })?;
        Ok(Self(watch))
    }

    fn end(mut self) -> Result<BTreeSet<IpAddr>> {
        self.0.kill()?;
        self.0.wait()?;
        let events = fs::read_to_string(EVENTS)?;
        let added = events.lines().filter(|line| !line.starts_with("Deleted ") && line.contains(" eth0 "));
        added.map(|line| Ok(Held::parse(line)?.address)).collect()
    }
}

/// Runs ocf-tester with so many addresses: it prints the two lines of success, the addresses were there and are gone.
fn passes(ipv4: u16, ipv6: u16, more: &[&str]) -> Result<()> {
    beside_eth0(|| {
        let addresses = [network::service_ipv4(ipv4), network::service_ipv6(ipv6)].concat();
        fs::write(IP_FILE, ip_file(&addresses))?;
        let seen = Seen::begin()?;
        let output = ocf_tester(AGENT, &[&[LIST], more].concat())?;
        let seen = seen.end()?;
        assert_eq!(output.all(), format!("Beginning tests for {AGENT}...\n{AGENT} passed all tests\n"));
        assert_eq!(output.code(), Some(0));
        ensure!(addresses.iter().all(|one| seen.contains(one)), "the agent did not add all addresses, only {seen:?}");
        let left = command(["ip", "-oneline", "address", "show", "dev", "eth0", "scope", "global"]).text()?;
        let left: BTreeSet<_> = left.lines().map(|line| Ok(Held::parse(line)?.address)).collect::<Result<_>>()?;
        let fixed = [network::node_ipv4(1).into(), network::node_ipv6(1).into()];
        assert_eq!(left, BTreeSet::from(fixed), "addresses after ocf-tester");
        Ok(())
    })
}

#[test]
fn as_promotable_clone() -> Result<()> {
    passes(5, 2, &[])
}

#[test]
fn as_plain_resource() -> Result<()> {
    passes(5, 2, &[PLAIN])
}

#[test]
fn as_promotable_clone_with_500_addresses() -> Result<()> {
    passes(480, 20, &[])
}

#[test]
fn as_plain_resource_with_500_addresses() -> Result<()> {
    passes(480, 20, &[PLAIN])
}

#[test]
fn an_agent_that_lies_about_stop_is_found_out() -> Result<()> {
    beside_eth0(|| {
        fs::write(IP_FILE, ip_file(&network::service_ipv4(2)))?;
        let liar = "/run/greenarrow/liar";
        install(liar, format!("#!/bin/sh\n[ \"$1\" = stop ] || exec {AGENT} \"$@\"\n").as_bytes())?;
        let output = ocf_tester(liar, &[LIST, PLAIN])?;
        assert_eq!(output.code(), Some(1), "{}", output.all());
        let said = output.all();
        assert!(said.contains("* rc=0: Monitoring a stopped resource should return 7"), "{said}");
        assert!(said.contains(&format!("Tests failed: {liar} failed ")), "{said}");
        Ok(())
    })
}

/// Runs ocf-tester over the standard tree of services with real supervises: it prints the two lines of success, each
/// service was up and is not any more, and those that are none of it were left alone.
fn services_pass(more: &[&str]) -> Result<()> {
    packages::require(&[packages::CLUSTER, packages::CHECKS].concat())?;
    installed::build(&["services"])?;
    enter(Isolation::Network, || {
        reap_orphans()?;
        install(SERVICES, &fs::read(installed::agent("services")?)?)?;
        let tree = standard_tree(Places::private()).init(Init::Works(0));
        let services = Supervision::here(tree.places.clone());
        services.lay_down(&tree.items())?;
        let parameters = [
            format!("service_dir={}", tree.places.scan),
            format!("mta_control={}", tree.places.program("hvmail_init")),
            format!("status_command={}", tree.places.program("greenarrow_status")),
            "svscan=start".to_owned(),
            "settle_time=1s".to_owned(),
        ];
        let parameters: Vec<_> = parameters.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = ocf_tester(SERVICES, &parameters)?;
        assert_eq!(output.all(), format!("Beginning tests for {SERVICES}...\n{SERVICES} passed all tests\n"));
        assert_eq!(output.code(), Some(0));
        for name in ACTIVE {
            ensure!(services.starts(name)? > 0, "{name} was never up");
        }
        assert_eq!(services.names()?, ["hvmail-postgres", "other-thing"]);
        assert_eq!((services.starts("hvmail-postgres")?, services.starts("other-thing")?), (1, 1));
        let logs = services.processes()?.into_iter().filter(|one| one.arguments.iter().any(|word| word == "multilog"));
        assert_eq!(logs.count(), 2, "of the logs only those of the two may run");
        Ok(())
    })
}

#[test]
fn services_as_promotable_clone() -> Result<()> {
    services_pass(&[])
}

#[test]
fn services_as_plain_resource() -> Result<()> {
    services_pass(&[PLAIN])
}
