//! The fence agent of the nodes: passes Pacemaker's request through the rig's socket to the driver, which is the
//! power switch. Speaks the fence agent API (ClusterLabs/fence-agents, doc/FenceAgentAPI.md): parameters as
//! `name=value` lines on standard input, the action among them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stdin};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use cts_tests::fence::{METADATA, SOCKET_IN_NODE};

fn main() -> Result<ExitCode> {
    let parameters = parameters()?;
    let value = |name: &str| parameters.get(name).map(String::as_str);
    match value("action").unwrap_or("reboot") {
        "metadata" | "meta-data" => {
            println!("{METADATA}");
            Ok(ExitCode::SUCCESS)
        }
        "validate-all" => Ok(ExitCode::SUCCESS),
        action => ask(action, value("plug").or(value("port")).or(value("nodename")).unwrap_or("-")),
    }
}

/// From the command line by hand (`-o ACTION -n NODE`), from standard input under Pacemaker.
fn parameters() -> Result<BTreeMap<String, String>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        let lines = stdin().lock().lines().collect::<Result<Vec<_>, _>>()?;
        return Ok(lines.iter().filter_map(|line| line.split_once('=')).map(owned).collect());
    }
    let names = |flag: &str| if flag == "-o" { "action" } else { "plug" };
    Ok(words.chunks_exact(2).map(|pair| owned((names(&pair[0]), &pair[1]))).collect())
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Answer: the exit status, then for `list` the nodes, on one line.
fn ask(action: &str, node: &str) -> Result<ExitCode> {
    let mut stream = UnixStream::connect(SOCKET_IN_NODE).with_context(|| format!("no driver at {SOCKET_IN_NODE}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    writeln!(stream, "{action} {node}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    let mut words = answer.split_whitespace();
    let status = words.next().and_then(|word| word.parse::<u8>().ok()).context("the driver hung up")?;
    for name in words {
        println!("{name}");
    }
    Ok(ExitCode::from(status))
}
