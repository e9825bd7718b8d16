//! Whether what was moved is there: asked of the servers themselves, over the network.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use ocf::{Deadline, Program};

use crate::cib::{Configuration, Resource};
use crate::ips::listed::List;
use crate::ips::site::USUAL_PATH;

const PATIENCE: Duration = Duration::from_secs(1);
/// So many addresses of each list are asked; a pair that is alive answers for all of them.
const ASKED: usize = 16;
const PORT: u16 = 5432;
/// PostgreSQL's SSLRequest (protocol-message-formats): answered with one byte before anybody has to log in.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What answers on `node`, or the first that does not and why; asked from `here`.
pub(crate) fn ask(configuration: &Configuration, here: &str, node: &str) -> Result<Vec<String>, String> {
    let mut answered = Vec::new();
    if let Some(server) = configuration.of_agent("postgresql").and_then(|resource| database(resource, node)) {
        greet(server).map_err(|error| format!("the database at {server}: {error}"))?;
        answered.push(format!("the database at {server}"));
    }
    let text = configuration.of_agent("services").and_then(|resource| resource.parameter("check_ports"));
    for port in ports(text.unwrap_or_default()) {
        if here != node && is_inward(port.ip()) {
            answered.push(format!("not seen from {here}: port {port}"));
            continue;
        }
        TcpStream::connect_timeout(&port, PATIENCE).map_err(|error| format!("port {port}: {error}"))?;
        answered.push(format!("port {port}"));
    }
    Ok(answered)
}

/// As ocf:greenarrow:services divides its parameter.
fn ports(text: &str) -> Vec<SocketAddr> {
    text.split([' ', ',', '\t', '\n']).filter_map(|port| port.parse().ok()).collect()
}

/// Each host reaches itself by it, and no other.
fn is_inward(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Where the server of a node is (primary_hosts: NODE:HOST …). A host by name is not looked up.
fn database(resource: &Resource, node: &str) -> Option<SocketAddr> {
    let hosts = resource.parameter("primary_hosts")?.split_whitespace();
    let host = hosts.filter_map(|one| one.split_once(':')).find(|(name, _)| *name == node)?.1;
    let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    let port = resource.parameter("pgport").and_then(|port| port.parse().ok()).unwrap_or(PORT);
    Some(SocketAddr::new(address, port))
}

fn greet(server: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&SSL_REQUEST)?;
    stream.read_exact(&mut [0])
}

/// Addresses of the pair that answer ping and are not this node's own: somebody has them. `unseen` gets why it cannot be
/// told.
pub(crate) fn answering(configuration: &Configuration, unseen: &mut Vec<String>) -> Vec<String> {
    let resources: Vec<_> = configuration.all_of_agent("primary-ips").collect();
    if !resources.is_empty() && Program::new("ping").path().is_none() {
        unseen.push("ping is not installed (package iputils)".to_owned());
        return Vec::new();
    }
    let own = own_addresses();
    let mut asked = Vec::new();
    for resource in resources {
        let path = resource.parameter("ip_file").unwrap_or(USUAL_PATH);
        match List::read(Path::new(path)) {
            Ok(list) => {
                // The other lines of a wrong file may be in use all the same.
                let addresses = list.entries.iter().map(|entry| entry.address);
                asked.extend(addresses.filter(|address| !own.contains(address)).take(ASKED));
                unseen.extend(list.fault.map(|fault| format!("{path}: {fault}")));
            }
            Err(error) => unseen.push(format!("{error:#}")),
        }
    }
    let ping = |address: IpAddr| {
        let words = ["-n", "-q", "-c", "1", "-W", "1", &address.to_string()].map(str::to_owned);
        let output = Program::new("ping").args(words).run(Deadline::after(PATIENCE * 3));
        output.is_ok_and(|output| output.status.success()).then(|| address.to_string())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = asked.into_iter().map(|address| scope.spawn(move || ping(address))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn own_addresses() -> Vec<IpAddr> {
    let all = getifaddrs().into_iter().flatten().filter_map(|one| one.address);
    let address = |one: nix::sys::socket::SockaddrStorage| {
        let four = one.as_sockaddr_in().map(|one| IpAddr::V4(one.ip()));
        four.or_else(|| one.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip())))
    };
    all.filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_node_has_its_own_address_of_the_database() {
        let parameters = vec![
            ("primary_hosts".to_owned(), "n1:192.0.2.1 n2:2001:db8::2 n3:db.example".to_owned()),
            ("pgport".to_owned(), "5433".to_owned()),
        ];
        let resource = Resource { parameters, ..Resource::default() };
        assert_eq!(database(&resource, "n1").unwrap().to_string(), "192.0.2.1:5433");
        assert_eq!(database(&resource, "n2").unwrap().to_string(), "[2001:db8::2]:5433");
        assert_eq!((database(&resource, "n3"), database(&resource, "n4")), (None, None));
    }

    /// What answers there is another node's business.
    #[test]
    fn a_loopback_port_is_asked_on_its_own_node_only() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = |port: SocketAddr| Configuration {
            resources: vec![Resource {
                agent: "ocf:greenarrow:services".to_owned(),
                parameters: vec![("check_ports".to_owned(), format!("\t{port}\n"))],
                ..Resource::default()
            }],
            ..Configuration::default()
        };
        let open = mute.local_addr().unwrap();
        assert_eq!(ask(&configuration(open), "n1", "n1").unwrap(), [format!("port {open}")]);
        assert!(ask(&configuration(gone), "n1", "n1").unwrap_err().starts_with(&format!("port {gone}: ")));
        assert_eq!(ask(&configuration(gone), "n1", "n2").unwrap(), [format!("not seen from n1: port {gone}")]);
        for inward in ["127.0.0.53", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(is_inward(inward.parse().unwrap()), "{inward}");
        }
        assert!(!is_inward("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_port_that_says_nothing_does_not_serve() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(greet(mute.local_addr().unwrap()).is_err());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || server.accept().unwrap().0.write_all(b"N").unwrap());
        assert!(greet(address).is_ok());
        thread.join().unwrap();
    }
}
