//! Where the addresses go, how they are added, and what becomes of the connections to them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::addresses::{holds, in_private_network, ip, line_of, list};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::other_host::{FIXED, OtherHost};

/// eth0 as on every segment of these tests, eth1 with a part of eth0's subnet, and eth2 with default routes and an
/// address that only its own subnet could use.
fn three_interfaces() -> Result<OtherHost> {
    let other = OtherHost::on_a_segment()?;
    other.cable("eth1")?;
    other.cable("eth2")?;
    ip("addr add 192.0.2.129/25 dev eth1\naddr add 2001:db8::8000:0:0:1/65 dev eth1 nodad\n\
        addr add 10.1.0.1/24 dev eth2\naddr add 2001:db8:ff::1/64 dev eth2 nodad\n")?;
    Ok(other)
}

const FIXED_ON_THREE: &[&str] = &[
    "192.0.2.1/24 eth0",
    "2001:db8::1/64 eth0",
    "192.0.2.129/25 eth1",
    "2001:db8::8000:0:0:1/65 eth1",
    "10.1.0.1/24 eth2",
    "2001:db8:ff::1/64 eth2",
];

#[test]
fn each_address_goes_to_the_most_specific_subnet_or_the_default_route_or_where_it_is_told() -> Result<()> {
    in_private_network(|| {
        let _other = three_interfaces()?;
        ip("route add default via 10.1.0.254 dev eth2\nroute add default via 192.0.2.254 dev eth0 metric 100\n\
        route add default via 2001:db8:ff::fe dev eth2\n")?;
        list(&[
            "192.0.2.10/24",
            "192.0.2.130/24",
            "2001:db8::10/64",
            "2001:db8::8000:0:0:10/64",
            "203.0.113.5/28",
            "2001:db8:5::5/64",
            "192.0.2.11/24 eth2",
        ])?;
        let agent = Agent::promotable()?.quick();
        let chosen = [
            "192.0.2.10/24 eth0",
            "192.0.2.130/24 eth1",
            "2001:db8::10/64 eth0",
            "2001:db8::8000:0:0:10/64 eth1",
            "203.0.113.5/28 eth2",
            "2001:db8:5::5/64 eth2",
            "192.0.2.11/24 eth2",
        ];
        agent.succeeds(&["start", "promote"])?;
        holds(FIXED_ON_THREE, &chosen)?;
        // The choice goes by fixed addresses; a change of those must not move what serves.
        ip("addr del 192.0.2.129/25 dev eth1\n")?;
        agent.exits(8, "monitor")?.without_reason()?;
        agent.succeeds(&["reload", "promote"])?;
        ip("addr add 192.0.2.129/25 dev eth1\n")?;
        holds(FIXED_ON_THREE, &chosen)?;
        agent.succeeds(&["stop"])?;

        let agent = agent.set("nic", "eth1");
        agent.succeeds(&["start", "promote"])?;
        let ordered = chosen.map(|line| {
            let told = line.starts_with("192.0.2.11/");
            if told { line.to_owned() } else { format!("{} eth1", line.split(' ').next().unwrap_or_default()) }
        });
        holds(FIXED_ON_THREE, &ordered.each_ref().map(String::as_str))?;
        agent.succeeds(&["stop"])?;
        holds(FIXED_ON_THREE, &[])
    })
}

#[test]
fn an_address_without_a_place_is_named_with_its_line_and_what_to_do() -> Result<()> {
    in_private_network(|| {
        let _other = three_interfaces()?;
        list(&["192.0.2.10/24", "203.0.113.5/28", "2001:db8:5::5/64"])?;
        for agent in [Agent::promotable()?, Agent::plain()?] {
            let words = [
                "/run/primary_ips: line 2: 203.0.113.5: no interface has a fixed address of its subnet",
                "line 3: 2001:db8:5::5: ",
                "name the interface after the prefix, or set nic",
            ];
            agent.quick().exits(2, "start")?.says(&words)?;
            holds(FIXED_ON_THREE, &[])?;
        }
        // An edit that brings one changes nothing.
        list(&["192.0.2.10/24"])?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote"])?;
        list(&["192.0.2.11/24", "203.0.113.5/28"])?;
        agent.exits(191, "monitor")?.says(&["/run/primary_ips: line 2: 203.0.113.5: no interface"])?;
        holds(FIXED_ON_THREE, &["192.0.2.10/24 eth0"])
    })
}

#[test]
fn an_interface_that_the_node_does_not_have_is_named_before_anything_is_added() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&["192.0.2.10/24", "192.0.2.11/24 eth7"])?;
        let words = ["this node does not have the interface of 192.0.2.11/24 on eth7"];
        Agent::promotable()?.quick().exits(1, "start")?.says(&words)?;
        Agent::promotable()?.quick().exits(1, "validate-all")?.says(&words)?;
        Agent::plain()?.quick().exits(1, "start")?.says(&["192.0.2.11", "eth7"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn a_link_local_address_goes_to_the_interface_of_its_line() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(&["fe80::10/128 eth1", "169.254.7.7/16 eth0"])?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote"])?;
        holds(FIXED, &["fe80::10/128 eth1", "169.254.7.7/16 eth0"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn addresses_are_added_as_ip_addr_add_would_with_broadcast_and_route() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&["198.51.100.10/24 eth0", "198.51.100.20/32 eth0", "2001:db8:9::10/64 eth0"])?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start", "promote"])?;
        let (ipv4, host, ipv6) = (line_of("198.51.100.10")?, line_of("198.51.100.20")?, line_of("2001:db8:9::10")?);
        ensure!(ipv4.contains("brd 198.51.100.255 scope global"), "{ipv4}");
        ensure!(!host.contains("brd"), "{host}");
        for line in [&ipv4, &host, &ipv6] {
            ensure!(line.contains("valid_lft forever preferred_lft forever"), "{line}");
        }
        ensure!(!ipv6.contains("tentative") && !ipv6.contains("nodad") && !ipv6.contains("deprecated"), "{ipv6}");
        ensure!(routes(&["-4"])?.contains("198.51.100.0/24 dev eth0"));
        ensure!(routes(&["-6"])?.contains("2001:db8:9::/64 dev eth0"));
        Ok(())
    })
}

fn routes(family: &[&str]) -> Result<String> {
    command(["ip"]).args(family).args(["route", "show"]).text()
}

#[test]
fn with_noprefixroute_no_route_to_the_subnet_comes_along() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&["198.51.100.10/24 eth0", "2001:db8:9::10/64 eth0"])?;
        let agent = Agent::promotable()?.quick().set("noprefixroute", "true");
        agent.succeeds(&["start", "promote"])?;
        holds(FIXED, &["198.51.100.10/24 eth0", "2001:db8:9::10/64 eth0"])?;
        ensure!(!routes(&["-4"])?.contains("198.51.100.0/24"), "{}", routes(&["-4"])?);
        ensure!(!routes(&["-6"])?.contains("2001:db8:9::/64"), "{}", routes(&["-6"])?);
        ensure!(line_of("198.51.100.10")?.contains("noprefixroute"));
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn preferred_lft_makes_ipv6_addresses_deprecated_and_leaves_ipv4_alone() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&["192.0.2.10/24", "2001:db8::10/64"])?;
        let agent = Agent::promotable()?.quick();
        for (preferred, word) in [("0", "deprecated"), ("500", "preferred_lft 500sec")] {
            let agent = agent.clone().set("preferred_lft", preferred);
            agent.succeeds(&["start", "promote"])?;
            let (ipv4, ipv6) = (line_of("192.0.2.10")?, line_of("2001:db8::10")?);
            // A second may have passed since.
            let near = ipv6.replace("preferred_lft 499sec", "preferred_lft 500sec");
            ensure!(near.contains(word) && ipv6.contains("valid_lft forever"), "{ipv6}");
            ensure!(ipv4.contains("preferred_lft forever") && !ipv4.contains("deprecated"), "{ipv4}");
            agent.exits(8, "monitor")?.without_reason()?;
            agent.succeeds(&["stop"])?;
        }
        agent
            .set("preferred_lft", "soon")
            .exits(6, "start")?
            .says(&["preferred_lft=\"soon\" is wrong: forever or a number"])?;
        Ok(())
    })
}

/// A connection from the other host to an address of this one: the client's end and the server's.
fn connect(other: &OtherHost, address: &str) -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::new(address.parse::<IpAddr>()?, 0))?;
    let to = listener.local_addr()?;
    let client = other.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?));
    let client = client.with_context(|| format!("no connection to {to}"))?;
    let (mut server, _) = listener.accept()?;
    server.write_all(b"hello")?;
    let mut hello = [0; 5];
    client.set_read_timeout(Some(Duration::from_millis(300)))?;
    (&client).read_exact(&mut hello)?;
    Ok((client, server))
}

#[test]
fn kill_connections_resets_the_connections_of_the_addresses_and_of_no_other() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(&["192.0.2.10/24", "2001:db8::10/64"])?;
        for (kill, action) in [("true", "stop"), ("true", "demote"), ("false", "stop")] {
            println!("kill_connections={kill}, {action}");
            let agent = Agent::promotable()?.quick().set("kill_connections", kill);
            agent.succeeds(&["start", "promote"])?;
            let moving = [connect(&other, "192.0.2.10")?, connect(&other, "2001:db8::10")?];
            let fixed = connect(&other, "192.0.2.1")?;
            let answer = agent.exits(0, action)?;
            holds(FIXED, &[])?;
            for (client, _server) in &moving {
                let found = { client }.read(&mut [0; 1]).map_err(|error| error.kind());
                let expected = if kill == "true" { ErrorKind::ConnectionReset } else { ErrorKind::WouldBlock };
                ensure!(found == Err(expected), "the client saw {found:?} instead of {expected:?}: {answer:#?}");
            }
            let found = (&fixed.0).read(&mut [0; 1]).map_err(|error| error.kind());
            ensure!(found == Err(ErrorKind::WouldBlock), "the connection to a fixed address: {found:?}");
            ensure!(answer.log.contains("2 TCP connections were reset") == (kill == "true"), "{answer:#?}");
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}
