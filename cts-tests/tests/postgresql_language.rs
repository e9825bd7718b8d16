//! ocf:greenarrow:postgresql with servers that speak German, in Latin-1: Debian's, for those of PyPI speak English only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::installed;
use cts_tests::isolation::{Isolation, STATE, enter};
use cts_tests::postgres::{DIRECTORY, Place, Server};
use cts_tests::{packages, wait};
use nix::mount::{MsFlags, mount};

const AMPLE: Duration = Duration::from_secs(20);
/// Where Debian's packages are seen.
const DEBIAN: &str = "/opt/debian";
/// The locale as localedef(1) calls it, and what it is called here.
const SOURCE: [&str; 2] = ["de_DE", "ISO-8859-1"];
const LOCALE: &str = "de_DE.iso88591";
const LOCALES: &str = "/usr/lib/locale";

/// Debian's current server, unpacked once, and its version.
fn tree() -> Result<(PathBuf, String)> {
    packages::require(packages::LOCALES)?;
    let kept = installed::target_directory()?.join("postgresql/debian");
    let versions = kept.join("usr/lib/postgresql");
    if !versions.exists() {
        let described = command(["apt-cache", "show", "--no-all-versions", "postgresql"]).text()?;
        let server = described.lines().find_map(|line| line.strip_prefix("Depends: ")?.split(", ").find(is_server));
        let server = server.context("the package postgresql depends on no server")?;
        // Under another name first: what was interrupted must not be taken for a server.
        let new = kept.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        packages::unpack(&[server, &server.replace("postgresql-", "postgresql-client-")], &new)?;
        fs::rename(new, &kept)?;
    }
    let version = fs::read_dir(&versions)?.next().context("the packages hold no server")??.file_name();
    Ok((kept, version.to_string_lossy().into_owned()))
}

fn is_server(name: &&str) -> bool {
    name.strip_prefix("postgresql-").is_some_and(|version| version.parse::<u32>().is_ok())
}

/// Runs `body` in a private network, with Debian's servers where the others are, and with the language.
fn with_servers(body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::process::id() != 1 {
        installed::build(&["postgresql"])?;
        tree()?;
    }
    enter(Isolation::Network, || {
        let (kept, version) = tree()?;
        let bind = |from: &Path, to: &str| mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        mount(Some("tmpfs"), "/opt", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        [DEBIAN, DIRECTORY].iter().try_for_each(fs::create_dir)?;
        bind(&kept, DEBIAN)?;
        // Programs that are called through a link find their catalogues beside what it leads to (find_my_exec, exec.c).
        symlink(format!("{DEBIAN}/usr/lib/postgresql/{version}/bin"), format!("{DIRECTORY}/bin"))?;
        let locales = Path::new(STATE).join("locale");
        command(["cp", "-r", LOCALES]).arg(&locales).text()?;
        command(["localedef", "-i", SOURCE[0], "-f", SOURCE[1]]).arg(locales.join(LOCALE)).within(AMPLE).text()?;
        bind(&locales, LOCALES)?;
        body()
    })
}

/// A pair that speaks German; the first is promoted, and the second streams from it.
fn pair() -> Result<[(Server, Agent); 2]> {
    let first = Server::new("n1", "127.0.0.1", Place::Here)?;
    let second = Server::new("n2", "127.0.0.2", Place::Here)?;
    first.initialise_in(LOCALE, "LATIN1")?;
    first.append(
        "postgresql.conf",
        "max_connections = 5\nsuperuser_reserved_connections = 0\nmax_wal_senders = 2\nlc_messages = 'de_DE.iso88591'\n",
    )?;
    second.copy(&first)?;
    let both = [&first, &second];
    let bin = format!("{DIRECTORY}/bin");
    let [one, two] = [first.agent(&both)?, second.agent(&both)?].map(|agent| agent.set("bindir", &bin));
    one.succeeds(&["start"])?;
    two.succeeds(&["start"])?;
    one.succeeds(&["promote"])?;
    second.await_streaming()?;
    let said = first.program("psql", &["-h", first.home(), "-Xd", "postgres", "-c", "SELECT nothing"])?.run()?.stderr;
    ensure!(said.contains("FEHLER"), "the server does not speak German: {said:?}");
    Ok([(first, one), (second, two)])
}

#[test]
fn a_server_may_speak_any_language_in_any_encoding() -> Result<()> {
    with_servers(|| {
        let [(first, one), (second, two)] = pair()?;
        one.exits(8, "monitor")?.without_reason()?;
        two.exits(0, "monitor")?.without_reason()?;
        // The name of the role stands between angle quotes, which are no UTF-8 in Latin-1.
        one.clone().set("monitor_user", "niemand").exits(191, "monitor")?.says(&["28000", "local all niemand peer"])?;
        is_full(&first, &one)?;
        is_not_let_in(&first, &two)?;
        // The programs that the agent asks speak English to it, whatever the server is set to.
        one.succeeds(&["demote"])?;
        one.exits(0, "monitor")?.without_reason()?;
        two.succeeds(&["promote"])?;
        two.exits(8, "monitor")?.without_reason()?;
        one.succeeds(&["stop"])?;
        first.append("postgresql.conf", "hba_file = '/gibts/nicht'\n")?;
        one.exits(1, "start")?.says(&[
            "the server ended at its start",
            "/gibts/nicht",
            "Datei oder Verzeichnis nicht gefunden",
        ])?;
        two.succeeds(&["stop"])?;
        ensure!(!first.has_processes()? && !second.has_processes()?);
        Ok(())
    })
}

fn is_full(server: &Server, agent: &Agent) -> Result<()> {
    let session = ["-h", server.home(), "-Xd", "postgres"];
    let mut sessions = Vec::new();
    let mut refused = 0;
    wait::until("the connections to be taken", AMPLE, wait::TOOL, || {
        if server.sql("SELECT 1").is_ok() {
            sessions.push(server.program("psql", &session)?.start(Stdio::null())?);
            refused = 0;
        } else {
            refused += 1;
        }
        Ok(refused == 3)
    })?;
    agent.exits(191, "monitor")?.says(&["53300", "max_connections"])?;
    drop(sessions);
    wait::until("the connections to be free", AMPLE, wait::TOOL, || Ok(server.sql("SELECT 1").is_ok())).map(drop)
}

fn is_not_let_in(primary: &Server, standby: &Agent) -> Result<()> {
    primary.refuse_standbys(&["127.0.0.1"], true)?;
    standby.exits(0, "monitor")?.without_reason()?;
    // As if nothing had streamed since the node's boot.
    let silent = "/run/resource-agents/postgresql-pg-n2.silent";
    ensure!(fs::exists(silent)?, "the monitor does not remember that nothing streams");
    fs::write(silent, "0")?;
    standby.exits(190, "monitor")?.says(&["no primary lets the standby in", "pg_hba.conf"])?;
    primary.refuse_standbys(&["127.0.0.1"], false)
}
