//! The power switch: what the nodes' fence agent asks for, it does, and it keeps a log with times.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::node::Node;
use crate::pacemaker::Member;

/// Where the agent in a node finds the switch.
pub const SOCKET_IN_NODE: &str = "/run/rig/fence.sock";

/// The fence agent's meta-data, in the form of ClusterLabs/fence-agents (doc/FenceAgentAPI.md): Pacemaker asks for it
/// before it registers the device and takes the target's name from `plug`.
pub const METADATA: &str = r#"<?xml version="1.0"?>
<resource-agent name="fence_rig" shortdesc="Power switch of a test rig">
<longdesc>Asks the driver of the rig, through a Unix socket, to cut the power of an emulated node.</longdesc>
<parameters>
<parameter name="action" unique="0" required="0"><content type="string" default="reboot"/>
<shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="plug" unique="0" required="0"><content type="string"/>
<shortdesc lang="en">Node to act on</shortdesc></parameter>
<parameter name="port" unique="0" required="0" deprecated="1"><content type="string"/>
<shortdesc lang="en">Node to act on</shortdesc></parameter>
</parameters>
<actions>
<action name="on" automatic="0"/><action name="off"/><action name="reboot"/><action name="status"/>
<action name="list"/><action name="monitor"/><action name="metadata"/><action name="validate-all"/>
</actions>
</resource-agent>"#;

/// One order that cut a node's power.
#[derive(Clone, Debug)]
pub struct Fencing {
    /// When the order arrived.
    pub asked: Instant,
    /// When the node was off.
    pub done: Instant,
    /// Who asked.
    pub by: String,
    /// Whom it hit.
    pub target: String,
}

/// The switch, one socket for each node. An order over a cut cable is refused, as a switch on the same network would
/// never receive it; so a cut node loses the race for fencing, as it does in a server room.
#[derive(Debug)]
pub struct Switch {
    nodes: Vec<Arc<Node>>,
    restart_after: Mutex<Option<Duration>>,
    log: Mutex<Vec<Fencing>>,
    trouble: Mutex<Vec<String>>,
}

impl Switch {
    /// Opens the sockets. After an order to reboot, a node is switched on again after `restart_after`; with `None` it
    /// stays off.
    pub fn start(nodes: &[Arc<Node>], restart_after: Option<Duration>) -> Result<Arc<Self>> {
        let switch = Arc::new(Self {
            nodes: nodes.to_vec(),
            restart_after: Mutex::new(restart_after),
            log: Mutex::default(),
            trouble: Mutex::default(),
        });
        for node in nodes {
            let path = node.share().join("fence.sock");
            let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
            let (switch, node) = (Arc::clone(&switch), Arc::clone(node));
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if let Err(error) = switch.serve(stream, &node) {
                        keep(&switch.trouble, format!("{error:#}"));
                    }
                }
            });
        }
        Ok(switch)
    }

    /// Changes what happens after an order to reboot.
    pub fn restart_after(&self, delay: Option<Duration>) {
        *self.restart_after.lock().unwrap_or_else(PoisonError::into_inner) = delay;
    }

    /// The orders that cut a node's power since `since`.
    pub fn since(&self, since: Instant) -> Vec<Fencing> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|fencing| fencing.asked >= since).cloned().collect()
    }

    /// Orders that could not be carried out, and nodes that did not start again.
    pub fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(self: &Arc<Self>, mut stream: UnixStream, by: &Node) -> Result<()> {
        let mut order = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut order)?;
        let answer = match order.split_whitespace().collect::<Vec<_>>().as_slice() {
            _ if !by.is_connected() => "1".to_owned(),
            ["monitor", _] => "0".to_owned(),
            ["list", _] => {
                let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
                format!("0 {}", names.join(" "))
            }
            // Fence agents answer 2 for "off" (FenceAgentAPI.md).
            ["status", target] => if self.node(target)?.is_on() { "0" } else { "2" }.to_owned(),
            ["on", target] => {
                self.node(target)?.boot()?;
                "0".to_owned()
            }
            [action @ ("off" | "reboot"), target] => {
                self.cut(target, &by.name, *action == "reboot")?;
                "0".to_owned()
            }
            other => bail!("the fence agent of {} sent {other:?}", by.name),
        };
        Ok(writeln!(stream, "{answer}")?)
    }

    fn cut(self: &Arc<Self>, target: &str, by: &str, restart: bool) -> Result<()> {
        let asked = Instant::now();
        let node = Arc::clone(self.node(target)?);
        node.power_cut()?;
        keep(&self.log, Fencing { asked, done: Instant::now(), by: by.to_owned(), target: target.to_owned() });
        let delay = *self.restart_after.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(delay) = delay.filter(|_| restart) {
            let switch = Arc::clone(self);
            thread::spawn(move || {
                thread::sleep(delay);
                if let Err(error) = node.boot() {
                    keep(&switch.trouble, format!("{} does not start again: {error:#}", node.name));
                }
            });
        }
        Ok(())
    }

    fn node(&self, name: &str) -> Result<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node is called {name}"))
    }
}

fn keep<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(item);
}
