//! Guests to try things in by hand: `cargo run -p cts-tests --bin rig-vm [-- AGENT…]`.
//!
//! Starts two guests with DRBD resource r0 up between them, in sync, with an ext4 file system on it, and installs the agents
//! of the workspace that are named. Then it obeys lines from standard input.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cts_tests::installed::{self, PROVIDER_DIRECTORY};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::vm::drbd::R0;
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::Link;

/// What is printed at the beginning, and when a line is none of these.
const ORDERS: &str = "\
NODE: PROGRAM ARGUMENTS       run a command on n1, n2 or all; no shell reads it
cut ring | cut replication    nothing arrives on that link any more
mend                          everything arrives again
kill NODE | start NODE        power cut, and power on
freeze NODE | thaw NODE       as a hanging hypervisor
fail NODE VOLUME              every read and write is an error (volume 0 is that of r0)
repair NODE VOLUME            the volume works again
put NODE FILE PATH            a file of this host into the guest
get NODE PATH                 a file of the guest
end";

/// How long a command by hand may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let agents: Vec<String> = std::env::args().skip(1).collect();
    enter(Isolation::Guests(&[]), || {
        let began = Instant::now();
        let rack = Rack::start(2)?;
        println!(
            "guests are up after {:.1} s; their consoles are in {}",
            began.elapsed().as_secs_f64(),
            rack.logs.display()
        );
        for agent in &agents {
            installed::build_agent(agent)?;
            rack.each(|guest| {
                guest.install(&installed::agent(agent)?, &format!("{PROVIDER_DIRECTORY}/{agent}"), 0o755)
            })?;
        }
        R0.lay_down(&rack)?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        println!("r0 is in sync after {:.1} s\n{ORDERS}", began.elapsed().as_secs_f64());
        prompt()?;
        for line in stdin().lock().lines() {
            match obey(&rack, &line?) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => println!("{error:#}"),
            }
            prompt()?;
        }
        Ok(())
    })
}

fn prompt() -> Result<()> {
    print!("> ");
    Ok(stdout().flush()?)
}

/// Whether it was the last order.
fn obey(rack: &Rack, line: &str) -> Result<bool> {
    if let Some((node, words)) = line.split_once(':').filter(|(node, _)| !node.contains(' ')) {
        let words: Vec<_> = words.split_whitespace().collect();
        let guests = rack.guests.iter().filter(|guest| node == "all" || guest.name == node);
        for guest in guests {
            let output = guest.command(&words).within(PATIENCE).run()?;
            println!("{}{}: {}", output.all(), guest.name, output.status);
        }
        return Ok(false);
    }
    let guest = |name: &str| rack.guest(name);
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] => {}
        ["end"] => return Ok(true),
        ["cut", "ring"] => rack.cut(Link::Ring),
        ["cut", "replication"] => rack.cut(Link::Replication),
        ["mend"] => rack.mend(),
        ["kill", name] => guest(name)?.power_cut()?,
        ["start", name] => on(guest(name)?)?,
        ["freeze", name] => guest(name)?.freeze()?,
        ["thaw", name] => guest(name)?.thaw()?,
        ["fail", name, volume] => guest(name)?.volume_fail(volume.parse()?)?,
        ["repair", name, volume] => guest(name)?.volume_mend(volume.parse()?)?,
        ["put", name, file, path] => guest(name)?.install(Path::new(file), path, 0o755)?,
        ["get", name, path] => print!("{}", guest(name)?.read_file(path)?),
        _ => bail!("`{line}` is no order; there are:\n{ORDERS}"),
    }
    Ok(false)
}

fn on(guest: &Guest) -> Result<()> {
    guest.power_on()?;
    guest.wait_up().context("it does not start")
}
