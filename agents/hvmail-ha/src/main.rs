//! hvmail_ha, hvmail_make_primary, hvmail_make_secondary: what the operator of a GreenArrow pair types. One program, called
//! by three names; it speaks to Pacemaker through its tools and their XML.

mod agents;
mod boot;
mod bundle;
#[cfg(test)]
mod captured;
mod cib;
mod command_line;
mod completions;
mod configure;
mod crm_mon;
mod findings;
mod ips;
mod make;
mod new_file;
mod picture;
mod preflight;
mod rejoin;
mod relocate;
mod reports;
mod screen;
mod serve;
mod takeover;
mod tools;
mod within;
mod xml;

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::command_line::{Name, command, manual, words};
use crate::findings::{Severity, findings, overall};
use crate::make::{DONE, Options, UNKNOWN, say};
use crate::picture::Picture;
use crate::screen::{Style, screen};

/// Where nobody says how wide it is.
const USUAL_WIDTH: usize = 80;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = Name::of(&arguments.first().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default());
    let matches = match command(name).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return ExitCode::from(if asked { DONE } else { UNKNOWN });
        }
    };
    let status = run(name, &matches).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "{}: {error:#}", name.word());
        UNKNOWN
    });
    ExitCode::from(status)
}

fn run(name: Name, matches: &ArgMatches) -> Result<u8> {
    if matches.get_flag("manual") {
        return Ok(say(manual(name)?.trim_end(), DONE));
    }
    match name {
        Name::MakePrimary => make::primary(&options(matches, false)),
        Name::MakeSecondary if matches.get_flag("boot") => boot::look(),
        Name::MakeSecondary => make::secondary(&options(matches, matches.get_flag("stop"))),
        Name::Ha => match matches.subcommand() {
            Some(("status", matches)) => status(matches),
            Some(("ips", matches)) => ips::run(matches),
            Some(("configure", matches)) => configure::run(matches),
            Some(("preflight", matches)) => make::preflight(matches.get_one("node")),
            Some(("rejoin", matches)) => rejoin::run(matches),
            Some(("completions", matches)) => Ok(completions::run(matches)),
            Some((bundle::NAME, matches)) => bundle::bundle(matches),
            _ => {
                let _ = write!(stdout(), "{}", command(name).render_help());
                Ok(UNKNOWN)
            }
        },
    }
}

fn options(matches: &ArgMatches, stop: bool) -> Options {
    Options {
        node: matches.get_one("node").cloned(),
        force: matches.get_flag("force"),
        losses: words(matches, "accept-data-loss"),
        stop,
        timeout: Duration::from_secs(matches.get_one("timeout").copied().unwrap_or_default()),
    }
}

fn status(matches: &ArgMatches) -> Result<u8> {
    if let Some(seconds) = matches.get_one::<u64>("watch") {
        return watch(Duration::from_secs(*seconds));
    }
    let picture = Picture::take();
    if matches.get_flag("prometheus") {
        let text = reports::prometheus(picture.as_ref().ok());
        return Ok(say(text.trim_end(), severity(picture.as_ref().ok())));
    }
    let picture = match picture {
        Err(error) if matches.get_flag("nagios") => {
            return Ok(say(
                &format!("HVMAIL_HA UNKNOWN - {}", format!("{error:#}").replace(['|', '\n'], " ")),
                UNKNOWN,
            ));
        }
        picture => picture?,
    };
    let text = match matches {
        _ if matches.get_flag("json") => reports::json(&picture)?,
        _ if matches.get_flag("nagios") => reports::nagios(&picture),
        _ => screen(&picture, style()),
    };
    Ok(say(text.trim_end(), severity(Some(&picture))))
}

fn severity(picture: Option<&Picture>) -> u8 {
    picture.map_or(Severity::Unknown, |picture| overall(&findings(picture))) as u8
}

fn watch(pause: Duration) -> Result<u8> {
    loop {
        let text = match Picture::take() {
            Ok(picture) => format!("{}\n\n{}", picture.at.strftime("%Y-%m-%d %H:%M:%S UTC"), screen(&picture, style())),
            Err(error) => format!("{error:#}\n"),
        };
        // Cursor home and erase (ECMA-48 CUP, ED), in one write so that nothing flickers.
        let before = if stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        write!(stdout(), "{before}{text}")?;
        stdout().flush()?;
        std::thread::sleep(pause);
    }
}

/// Colour for a terminal that has it (no-color.org: NO_COLOR).
fn style() -> Style {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Style {
        width: width.filter(|width| *width > 0).or(columns).unwrap_or(USUAL_WIDTH).clamp(60, 240),
        colour: stdout().is_terminal() && !dumb && !set("NO_COLOR"),
    }
}
