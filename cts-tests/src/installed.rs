//! The programs of this workspace as the nodes get them, built by cargo before the namespaces are entered.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::command;

/// Where Pacemaker looks for the agents of provider `greenarrow` (OCF_ROOT/resource.d/PROVIDER).
pub const PROVIDER_DIRECTORY: &str = "/usr/lib/ocf/resource.d/greenarrow";

/// The root of the workspace this crate was built from.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target directory: the one this very program was built in, whatever CARGO_TARGET_DIR says by now.
pub fn target_directory() -> Result<PathBuf> {
    let directory = directory_of_programs()?;
    Ok(directory.parent().context("this program was not built by cargo")?.to_owned())
}

/// An agent as a release build, which is what is shipped and therefore what is tested.
pub fn agent(name: &str) -> Result<PathBuf> {
    Ok(target_directory()?.join("release").join(name))
}

/// A program of this crate, of the same profile as the running one.
pub fn rig_program(name: &str) -> Result<PathBuf> {
    Ok(directory_of_programs()?.join(name))
}

/// Builds the programs of the rig and these agents; cargo itself knows whether anything is outdated.
pub fn build(agents: &[&str]) -> Result<()> {
    agents.iter().try_for_each(|agent| build_agent(agent))?;
    let mut rig = vec!["--package", "cts-tests", "--bin", "rig-node", "--bin", "rig-systemd", "--bin", "fence_rig"];
    rig.extend(["--bin", "rig-guest", "--bin", "rig-writer"]);
    if directory_of_programs()?.ends_with("release") {
        rig.push("--release");
    }
    cargo(&rig)
}

/// Builds an agent as [`agent`] wants it.
pub fn build_agent(name: &str) -> Result<()> {
    cargo(&["--release", "--package", name])
}

fn cargo(words: &[&str]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command([program])
        .args(["build", "--quiet", "--target-dir"])
        .arg(target_directory()?)
        .args(words)
        .directory(workspace())
        .within(Duration::from_secs(20 * 60))
        .text()
        .map(drop)
}

/// TARGET/PROFILE; a test's own executable is one level deeper, in `deps`.
fn directory_of_programs() -> Result<PathBuf> {
    let executable = env::current_exe()?;
    let directory = executable.parent().context("the running program has no directory")?;
    Ok(if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }.to_owned())
}
