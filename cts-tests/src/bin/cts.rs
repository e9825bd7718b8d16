//! Every check of this project, or the named ones, with a summary at the end: `cargo cts [NAME…]`.

use std::io::{BufRead, BufReader, IsTerminal, pipe, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::{Arg, ArgAction};
use cts_tests::command::{Command, command};
use cts_tests::{installed, packages};
use nix::unistd::geteuid;

/// The version of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// What a check runs.
enum Kind {
    /// cargo with these arguments; passed or failed as a whole.
    Cargo(&'static [&'static str]),
    /// `cargo test` with these arguments; its result lines are counted.
    Test(&'static [&'static str]),
}

struct Check {
    name: &'static str,
    about: &'static str,
    kind: Kind,
}

/// In the order in which they run: what fails quickly comes first.
const CHECKS: &[Check] = &[
    Check { name: "fmt", about: "the code is formatted", kind: Kind::Cargo(&["fmt", "--all", "--check"]) },
    Check {
        name: "clippy",
        about: "no warnings, pedantic lints included",
        kind: Kind::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Check {
        name: "deny",
        about: "licences, sources and duplicates of the crates used",
        kind: Kind::Cargo(&["deny", "check", "licenses", "bans", "sources"]),
    },
    Check { name: "unit", about: "the tests inside the crates", kind: Kind::Test(&["--workspace", "--lib", "--bins"]) },
    Check {
        name: "metadata",
        about: "meta-data and man page: files, schemas, and what crm, pcs and crm_resource read",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "metadata"]),
    },
    Check {
        name: "fuzz",
        about: "the seeds of the fuzz targets, and mutations of them",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "fuzz_seeds"]),
    },
    Check {
        name: "ocf-tester",
        about: "ocf-tester prints nothing but success",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "ocf_tester"]),
    },
    Check {
        name: "namespace",
        about: "every action and state of the agents, with the kernel, /proc and real daemontools as witnesses",
        kind: Kind::Test(&[
            "-p",
            "cts-tests",
            "--test",
            "primary_ips_announcements",
            "--test",
            "primary_ips_by_hand",
            "--test",
            "primary_ips_drift",
            "--test",
            "primary_ips_duplicates",
            "--test",
            "primary_ips_file",
            "--test",
            "primary_ips_network",
            "--test",
            "primary_ips_roles",
            "--test",
            "services_by_hand",
            "--test",
            "services_faults",
            "--test",
            "services_monitor",
            "--test",
            "services_mounts",
            "--test",
            "services_roles",
            "--test",
            "services_stop",
            "--test",
            "services_systemd",
        ]),
    },
    Check {
        name: "rig",
        about: "the test rig and its scenarios, proved with ocf:heartbeat:IPaddr2 and ocf:pacemaker:Stateful",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "node", "--test", "daemontools", "--test", "rig"]),
    },
    Check {
        name: "cluster",
        about: "every scenario with the agents, as promotable clones and as plain resources, and what can harm them",
        kind: Kind::Test(&[
            "-p",
            "cts-tests",
            "--test",
            "primary_ips_cluster",
            "--test",
            "primary_ips_standby",
            "--test",
            "services_cluster",
            "--test",
            "services_harm",
        ]),
    },
    Check {
        name: "postgresql",
        about: "every action and state of ocf:greenarrow:postgresql with real servers, PostgreSQL 11 to 18",
        kind: Kind::Test(&[
            "-p",
            "cts-tests",
            "--test",
            "postgresql_base_backup",
            "--test",
            "postgresql_by_hand",
            "--test",
            "postgresql_faults",
            "--test",
            "postgresql_half_record",
            "--test",
            "postgresql_replication",
            "--test",
            "postgresql_roles",
            "--test",
            "postgresql_versions",
        ]),
    },
    Check {
        name: "postgresql-cluster",
        about: "ocf:greenarrow:postgresql in real clusters, while a client writes",
        kind: Kind::Test(&[
            "-p",
            "cts-tests",
            "--test",
            "postgresql_cluster",
            "--test",
            "postgresql_cluster_versions",
            "--test",
            "postgresql_disk",
            "--test",
            "postgresql_divergence",
            "--test",
            "postgresql_lacking",
            "--test",
            "postgresql_scenarios",
            "--test",
            "postgresql_trouble",
        ]),
    },
    Check {
        name: "hvmail-ha",
        about: "what the operator types, in real clusters with everything, while clients are served",
        kind: Kind::Test(&[
            "-p",
            "cts-tests",
            "--test",
            "hvmail_ha_boot",
            "--test",
            "hvmail_ha_configure",
            "--test",
            "hvmail_ha_move",
            "--test",
            "hvmail_ha_rejoin",
            "--test",
            "hvmail_ha_status",
        ]),
    },
    Check {
        name: "vm",
        about: "ocf:greenarrow:drbd with a real DRBD in virtual machines, by hand; the rig itself",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "vm_rig", "--test", "drbd_by_hand"]),
    },
    Check {
        name: "vm-cluster",
        about: "everything that can happen to a pair with DRBD, and the whole chain behind it, in virtual machines",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "drbd_cluster", "--test", "drbd_chain"]),
    },
    Check {
        name: "rpm",
        about: "the package: built, linted, installed, used and removed in a node",
        kind: Kind::Test(&["-p", "cts-tests", "--test", "rpm"]),
    },
];

/// How a check went.
struct Outcome {
    name: &'static str,
    took: Duration,
    passed: u32,
    failed: u32,
}

fn main() -> Result<ExitCode> {
    let list = Arg::new("list").long("list").action(ArgAction::SetTrue);
    let names = Arg::new("name").action(ArgAction::Append).help("Run these checks only");
    let arguments = clap::Command::new("cargo cts")
        .about("Runs the project's checks; needs root, because it starts clusters in namespaces of their own")
        .arg(list.help("Print the checks and what they are about, and run none"))
        .arg(names)
        .get_matches();
    if arguments.get_flag("list") {
        for check in CHECKS {
            println!("{:12} {}", check.name, check.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments.get_many("name").unwrap_or_default().cloned().collect::<Vec<String>>())?;
    ensure!(geteuid().is_root(), "the checks start clusters and install packages: run this as root (or with sudo -E)");
    packages::require(&[packages::CLUSTER, packages::CHECKS].concat())?;
    if chosen.iter().any(|check| check.name == "deny") {
        require_cargo_deny()?;
    }
    let outcomes = chosen.into_iter().map(run).collect::<Result<Vec<_>>>()?;
    Ok(summary(&outcomes))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Check>> {
    let known: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no check is called `{unknown}`; there are: {}", known.join(", "));
    }
    Ok(CHECKS.iter().filter(|check| names.is_empty() || names.iter().any(|name| name == check.name)).collect())
}

fn tools() -> Result<PathBuf> {
    Ok(installed::target_directory()?.join("tools"))
}

/// cargo, with the tools installed by this program on its path, in the workspace.
fn cargo(arguments: &[&str]) -> Result<Command> {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", tools()?.join("bin").display());
    Ok(command(["cargo"]).args(arguments).env("PATH", path).directory(installed::workspace()))
}

fn require_cargo_deny() -> Result<()> {
    if cargo(&["deny", "--version"])?.run()?.status.success() {
        return Ok(());
    }
    println!("installing {CARGO_DENY} under {}: a build of some minutes", tools()?.display());
    let install = cargo(&["install", "--locked", "--quiet", CARGO_DENY, "--root"])?.arg(tools()?);
    let status = install.watched()?;
    ensure!(status.success(), "{install}: {status}");
    Ok(())
}

/// Runs one check with its output passed through.
fn run(check: &'static Check) -> Result<Outcome> {
    println!("\n==== {}: {}", check.name, check.about);
    let began = Instant::now();
    let color = if stdout().is_terminal() { "always" } else { "never" };
    let (arguments, tests) = match check.kind {
        Kind::Cargo(arguments) => (arguments.to_vec(), false),
        // Clusters and benchmarks need the machine to themselves; --nocapture shows what each scenario measured.
        Kind::Test(arguments) => {
            let after = ["--no-fail-fast", "--locked", "--", "--test-threads=1", "--nocapture"];
            ([&["test"], arguments, &after].concat(), true)
        }
    };
    let (output, input) = pipe()?;
    let mut child = cargo(&arguments)?.env("CARGO_TERM_COLOR", color).env("RUST_BACKTRACE", "0").start_into(input)?;
    let (mut passed, mut failed) = (0, 0);
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if tests && line.contains("test result:") {
            passed += count(&line, " passed");
            failed += count(&line, " failed");
        }
    }
    let succeeded = child.wait()?.success();
    if !tests {
        (passed, failed) = if succeeded { (1, 0) } else { (0, 1) };
    } else if !succeeded || passed + failed == 0 {
        // It did not compile, or a test took its whole process with it, or there was nothing to run.
        failed = failed.max(1);
    }
    Ok(Outcome { name: check.name, took: began.elapsed(), passed, failed })
}

/// The number before `word` in cargo's `test result: ok. 3 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn summary(outcomes: &[Outcome]) -> ExitCode {
    println!("\n{:12} {:>8} {:>8} {:>8}", "check", "passed", "failed", "seconds");
    for Outcome { name, took, passed, failed } in outcomes {
        println!("{name:12} {passed:>8} {failed:>8} {:>8.1}", took.as_secs_f64());
    }
    let sum = |part: fn(&Outcome) -> u32| outcomes.iter().map(part).sum::<u32>();
    let (passed, failed) = (sum(|one| one.passed), sum(|one| one.failed));
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, Kind, count};

    #[test]
    fn cargo_test_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!((count(line, " passed"), count(line, " failed")), (12, 3));
    }

    #[test]
    fn every_file_of_tests_belongs_to_a_check() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let target = path.file_stem().unwrap().to_str().unwrap();
                let named = |kind: &Kind| matches!(kind, Kind::Test(words) if words.contains(&target));
                assert!(CHECKS.iter().any(|check| named(&check.kind)), "no check runs tests/{target}.rs");
            }
        }
    }
}
