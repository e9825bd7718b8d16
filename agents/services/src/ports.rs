//! Whether ports accept connections.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ocf::Deadline;

/// An address of this node answers at once, with a connection or a refusal; only a packet filter makes it wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// A service that supervise has just restarted listens again after so long.
const SECOND_CHANCE: Duration = Duration::from_secs(1);

/// Those of `ports` that accept no connection, twice if there is time for it, with what the kernel said.
pub(crate) fn closed(ports: &[SocketAddr], deadline: Deadline) -> Vec<(SocketAddr, String)> {
    let refused = |port: SocketAddr| Some((port, accepts(port, deadline).err()?));
    let closed: Vec<_> = ports.iter().copied().filter_map(refused).collect();
    if closed.is_empty() || !deadline.sleep(SECOND_CHANCE) {
        return closed;
    }
    closed.into_iter().filter_map(|(port, _)| refused(port)).collect()
}

fn accepts(port: SocketAddr, deadline: Deadline) -> Result<(), String> {
    // connect_timeout refuses a time of zero.
    let patience = PATIENCE.min(deadline.remaining()).max(Duration::from_millis(1));
    TcpStream::connect_timeout(&port, patience).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_without_a_listener_is_closed() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let closed = closed(&[open.local_addr().unwrap(), gone], Deadline::after(Duration::from_secs(10)));
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].0, gone);
        assert!(closed[0].1.contains("refused"), "{closed:?}");
    }

    #[test]
    fn without_time_for_a_second_try_the_first_counts() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(closed(&[gone], Deadline::after(Duration::from_millis(100))).len(), 1);
    }
}
