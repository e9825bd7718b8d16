//! Real connections between two hosts.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::netns::Namespace;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A node and a host at the other end of its cable.
fn hosts() -> (Namespace, Namespace) {
    let (node, outside) = (Namespace::new(), Namespace::new());
    node.cable("eth0", &outside, "eth0");
    (node, outside)
}

/// A listener of the node, a client of the outside that is connected to it, and the node's end.
fn connected(node: &Namespace, outside: &Namespace, bind: &str, connect: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = node.run(|| TcpListener::bind((bind, 0)).unwrap());
    let target = SocketAddr::new(connect.parse().unwrap(), listener.local_addr().unwrap().port());
    let client = outside.run(|| TcpStream::connect(target).unwrap());
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (listener, client, accepted)
}

fn is_reset(client: &mut TcpStream) -> bool {
    client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn is_alive(client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn clients_of_the_addresses_are_told_and_all_others_are_left_alone() {
    let (node, outside) = hosts();
    for address in ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"] {
        node.add_address("eth0", address);
    }
    outside.add_address("eth0", "192.0.2.9/24");
    outside.add_address("eth0", "2001:db8::9/64");
    let (listener, mut plain, _end1) = connected(&node, &outside, "0.0.0.0", "192.0.2.1");
    let (_dual, mut mapped, _end2) = connected(&node, &outside, "::", "192.0.2.1");
    let (_six, mut six, _end3) = connected(&node, &outside, "::", "2001:db8::1");
    let (_other, mut other, _end4) = connected(&node, &outside, "0.0.0.0", "192.0.2.2");
    let addresses = ["192.0.2.1", "2001:db8::1", "192.0.2.77"].map(|text| text.parse().unwrap());
    let ended = node.run(|| kill(soon(), &addresses).unwrap());
    assert_eq!(ended, 3);
    assert!(is_reset(&mut plain) && is_reset(&mut mapped) && is_reset(&mut six));
    assert!(is_alive(&mut other), "a connection to another address was ended");
    let target = SocketAddr::new("192.0.2.1".parse().unwrap(), listener.local_addr().unwrap().port());
    outside.run(|| TcpStream::connect(target).expect("the listener was ended"));
    assert_eq!(node.run(|| kill(soon(), &["192.0.2.77".parse().unwrap()]).unwrap()), 0);
}

#[test]
fn more_connections_than_fit_into_one_send_are_ended() {
    const COUNT: usize = 300;
    let (node, outside) = hosts();
    node.add_address("eth0", "192.0.2.1/24");
    outside.add_address("eth0", "192.0.2.9/24");
    let listener = node.run(|| TcpListener::bind("192.0.2.1:0").unwrap());
    let target = listener.local_addr().unwrap();
    let mut many = Vec::new();
    for _ in 0..COUNT {
        let client = outside.run(|| TcpStream::connect(target).unwrap());
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        many.push((client, listener.accept().unwrap()));
    }
    let ended = node.run(|| kill(soon(), &["192.0.2.1".parse().unwrap()]).unwrap());
    assert_eq!(ended, COUNT);
    assert!(many.iter_mut().all(|(client, _)| is_reset(client)));
}

#[test]
fn what_the_kernel_cannot_do_is_said_and_what_ended_by_itself_is_not_counted() {
    let refused = |errno| Err(Refusal { errno, said: None });
    assert_eq!(count_ended(&[Ok(()), refused(Errno::ENOENT), Ok(())]).unwrap(), 2);
    let error = count_ended(&[Ok(()), refused(Errno::EOPNOTSUPP)]).unwrap_err().to_string();
    assert!(error.contains("CONFIG_INET_DIAG_DESTROY"), "{error}");
    assert!(count_ended(&[refused(Errno::EPERM)]).is_err());
}
