//! The RPM package: built from the working tree, looked at by rpmlint, installed, used and removed in a node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::command::{Command, Output, command};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::{Node, SHARE_IN_NODE};
use cts_tests::{installed, packages};

const AGENTS: &[&str] = &["drbd", "postgresql", "primary-ips", "services"];
/// The packages of the workspace that have a program in the package.
const PROGRAMS: &[&str] = &["drbd", "postgresql", "primary-ips", "services", "hvmail-ha"];
const PACKAGE: &str = "resource-agents-greenarrow";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SPEC: &str = "rpm/resource-agents-greenarrow.spec";

/// What the package is made of: everything cargo reads, and what the spec installs.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    ".cargo",
    "lib",
    "agents",
    "cts-tests",
    "fuzz/bodies",
    "metadata",
    "rpm",
];

/// A directory for rpmbuild (its `_topdir`), with a copy of the working tree; removed when dropped.
struct Build {
    directory: PathBuf,
}

impl Build {
    /// Uncommitted and untracked files belong to what is tested: the tree is copied as it is.
    fn of_the_working_tree(name: &str) -> Result<Self> {
        packages::require(packages::CHECKS)?;
        installed::build(PROGRAMS)?;
        let directory = std::env::temp_dir().join(format!("cts-rpm-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("SOURCES"))?;
        let build = Self { directory };
        let tree = build.tree();
        fs::create_dir(&tree)?;
        let copy = command(["cp", "--recursive", "--parents", "--target-directory"]).arg(&tree).args(SOURCES);
        copy.directory(installed::workspace()).text()?;
        Ok(build)
    }

    fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Changes one file of the tree, to see what comes of it.
    fn change(&self, path: &str, change: impl FnOnce(String) -> String) -> Result<()> {
        let file = self.tree().join(path);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        Ok(fs::write(file, change(text))?)
    }

    /// Packs the tree and runs rpmbuild, with the programs that are built already: another optimised build would take
    /// minutes. The other definitions are explained in rpm/README.md.
    fn rpmbuild(&self, version: &str, programs: &Path) -> Result<Output> {
        let archive = self.directory.join(format!("SOURCES/{PACKAGE}-{version}.tar.gz"));
        let rename = format!("--transform=s,^,{PACKAGE}-{version}/,");
        command(["tar", "--create", "--gzip", "--file"])
            .arg(archive)
            .arg(rename)
            .args(SOURCES)
            .directory(self.tree())
            .text()?;
        let definitions = [
            format!("_topdir {}", self.directory.display()),
            format!("prebuilt {}", programs.display()),
            "__brp_compress /bin/bash /usr/lib/rpm/brp-compress /usr".to_owned(),
            "_docdir_fmt %%{NAME}".to_owned(),
        ];
        // Debian's rpm database knows of no installed cargo: --nodeps.
        command(["rpmbuild", "-bb", "--nodeps"])
            .args(definitions.iter().flat_map(|definition| ["--define", definition]))
            .arg(SPEC)
            .directory(self.tree())
            .within(Duration::from_secs(180))
            .run()
    }

    /// The package; nothing beside it, so no -debuginfo and no -debugsource.
    fn package(&self) -> Result<PathBuf> {
        let built = self.rpmbuild(VERSION, &installed::target_directory()?.join("release"))?;
        ensure!(built.status.success(), "rpmbuild: {}: {}", built.status, built.all());
        let machine = std::env::consts::ARCH;
        let packages = self.directory.join("RPMS").join(machine);
        let found: Vec<_> = fs::read_dir(&packages)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        assert_eq!(found, [packages.join(format!("{PACKAGE}-{VERSION}-1.{machine}.rpm"))]);
        Ok(found[0].clone())
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // What is left in /tmp harms nobody.
        let _left = fs::remove_dir_all(&self.directory);
    }
}

fn rpm(argv: &[&str]) -> Command {
    command(["rpm"]).args(argv)
}

#[test]
fn the_package_is_free_of_complaints_and_asks_for_what_it_uses() -> Result<()> {
    let build = Build::of_the_working_tree("lint")?;
    let package = build.package()?;
    let lint = command(["rpmlint", "--strict", "-c", "rpm/rpmlint.toml", SPEC])
        .arg(&package)
        .directory(installed::workspace())
        // A user's own filters must not weaken it.
        .env("XDG_CONFIG_HOME", &build.directory)
        .run()?;
    let counted = lint.stdout.contains("1 packages and 1 specfiles checked; 0 errors, 0 warnings");
    ensure!(lint.status.success() && counted, "rpmlint: {}: {}", lint.status, lint.all());

    let requires = rpm(&["-qp", "--requires"]).arg(&package).text()?;
    assert!(requires.lines().any(|line| line == "pacemaker-cli >= 2.1"), "{requires}");
    let foreign = |line: &str| line.starts_with("resource-agents") || line.starts_with("/bin/");
    assert!(!requires.lines().any(foreign), "{requires}");
    assert_eq!(rpm(&["-qp", "--scripts"]).arg(&package).text()?, "", "the package has scripts");
    assert_eq!(rpm(&["-qp", "--qf", "%{LICENSE}"]).arg(&package).text()?, "MIT AND Unicode-3.0");
    Ok(())
}

/// rpmbuild has to fail in that section, with that on its output.
fn refused(output: &Output, section: &str, trace: &str) {
    let said = output.all();
    assert!(!output.status.success() && said.contains(section) && said.contains(trace), "{}: {said}", output.status);
}

#[test]
fn what_does_not_fit_together_is_not_packaged() -> Result<()> {
    let programs = installed::target_directory()?.join("release");
    let build = Build::of_the_working_tree("metadata")?;
    build.change("metadata/services.xml", |text| text + "<!-- older -->\n")?;
    refused(&build.rpmbuild(VERSION, &programs)?, "(%check)", "cmp: EOF on");

    let build = Build::of_the_working_tree("version")?;
    build.change(SPEC, |text| text.replace(&format!("Version:        {VERSION}"), "Version:        99.0"))?;
    refused(&build.rpmbuild("99.0", &programs)?, "(%check)", &format!("{} 99.0", AGENTS[0]));

    let build = Build::of_the_working_tree("page")?;
    fs::remove_dir_all(build.tree().join("metadata/man"))?;
    refused(&build.rpmbuild(VERSION, &programs)?, "(%install)", "metadata/man/*.7");
    refused(&build.rpmbuild(VERSION, Path::new("/nowhere"))?, "(%install)", &format!("/nowhere/{}", AGENTS[0]));
    Ok(())
}

/// Mode, owner and path of everything in the package, in its order.
const FILES: &str = "\
40755 root:root /usr/lib/ocf
40755 root:root /usr/lib/ocf/resource.d
40755 root:root /usr/lib/ocf/resource.d/greenarrow
100755 root:root /usr/lib/ocf/resource.d/greenarrow/drbd
100755 root:root /usr/lib/ocf/resource.d/greenarrow/postgresql
100755 root:root /usr/lib/ocf/resource.d/greenarrow/primary-ips
100755 root:root /usr/lib/ocf/resource.d/greenarrow/services
100644 root:root /usr/lib/systemd/system/hvmail-secondary.service
100755 root:root /usr/sbin/greenarrow-drbd-fence
100755 root:root /usr/sbin/hvmail_ha
120777 root:root /usr/sbin/hvmail_make_primary
120777 root:root /usr/sbin/hvmail_make_secondary
100644 root:root /usr/share/bash-completion/completions/hvmail_ha
100644 root:root /usr/share/bash-completion/completions/hvmail_make_primary
100644 root:root /usr/share/bash-completion/completions/hvmail_make_secondary
40755 root:root /usr/share/doc/resource-agents-greenarrow
100644 root:root /usr/share/doc/resource-agents-greenarrow/CHANGELOG.md
100644 root:root /usr/share/doc/resource-agents-greenarrow/README.md
100644 root:root /usr/share/fish/vendor_completions.d/hvmail_ha.fish
100644 root:root /usr/share/fish/vendor_completions.d/hvmail_make_primary.fish
100644 root:root /usr/share/fish/vendor_completions.d/hvmail_make_secondary.fish
40755 root:root /usr/share/licenses/resource-agents-greenarrow
100644 root:root /usr/share/licenses/resource-agents-greenarrow/LICENSE
100644 root:root /usr/share/licenses/resource-agents-greenarrow/LICENSE.dependencies
100644 root:root /usr/share/man/man7/ocf_greenarrow_drbd.7.gz
100644 root:root /usr/share/man/man7/ocf_greenarrow_postgresql.7.gz
100644 root:root /usr/share/man/man7/ocf_greenarrow_primary-ips.7.gz
100644 root:root /usr/share/man/man7/ocf_greenarrow_services.7.gz
100644 root:root /usr/share/man/man8/hvmail_ha.8.gz
100644 root:root /usr/share/man/man8/hvmail_make_primary.8.gz
100644 root:root /usr/share/man/man8/hvmail_make_secondary.8.gz
40755 root:root /usr/share/resource-agents-greenarrow
40755 root:root /usr/share/resource-agents-greenarrow/metadata
100644 root:root /usr/share/resource-agents-greenarrow/metadata/drbd.xml
100644 root:root /usr/share/resource-agents-greenarrow/metadata/postgresql.xml
100644 root:root /usr/share/resource-agents-greenarrow/metadata/primary-ips.xml
100644 root:root /usr/share/resource-agents-greenarrow/metadata/services.xml
100644 root:root /usr/share/zsh/site-functions/_hvmail_ha
100644 root:root /usr/share/zsh/site-functions/_hvmail_make_primary
100644 root:root /usr/share/zsh/site-functions/_hvmail_make_secondary
";

/// Of those, what other packages have too.
const SHARED: &[&str] = &["/usr/lib/ocf", "/usr/lib/ocf/resource.d"];

#[test]
fn in_a_node_it_is_installed_used_and_removed() -> Result<()> {
    packages::require(packages::CHECKS)?;
    enter(Isolation::Cluster(PROGRAMS), || {
        let node = Node::new(1, 1)?;
        node.power_on()?;
        let build = Build::of_the_working_tree("node")?;
        fs::copy(build.package()?, node.share().join("package.rpm"))?;
        let path = |path: &str| node.path(path).map(|path| path.exists());
        ensure!(!path(installed::PROVIDER_DIRECTORY)?, "agents of greenarrow are there before the package");

        // The database of Debian's rpm is empty: neither dependencies nor files of other packages are in it.
        let package = format!("{SHARE_IN_NODE}/package.rpm");
        node.text(&["rpm", "--install", "--force-debian", "--nodeps", &package])?;
        let query = "[%{FILEMODES:octal} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]";
        assert_eq!(node.text(&["rpm", "--query", "--qf", query, PACKAGE])?, FILES);
        assert_eq!(node.text(&["rpm", "--verify", "--nodeps", PACKAGE])?, "");
        assert_eq!(node.text(&["crm_resource", "--list-agents", "ocf:greenarrow"])?, AGENTS.join("\n") + "\n");
        for (agent, parameter) in AGENTS.iter().zip(["drbd_resource", "pgdata", "ip_file", "service_dir"]) {
            let program = fs::metadata(node.path(&format!("{}/{agent}", installed::PROVIDER_DIRECTORY))?)?;
            assert_eq!(program.permissions().mode(), 0o100_755);
            is_found(&node, agent, parameter)?;
        }
        for command in ["hvmail_ha", "hvmail_make_primary", "hvmail_make_secondary"] {
            assert_eq!(node.text(&[command, "--version"])?, format!("{command} {VERSION}\n"));
        }
        shells_complete(&node)?;
        the_unit_is_sound(&node)?;
        is_verified(&node)?;

        assert_eq!(node.run(&["rpm", "--erase", "--force-debian", PACKAGE])?.all(), "");
        assert_eq!(node.run(&["rpm", "--query", PACKAGE])?.code(), Some(1));
        for line in FILES.lines() {
            let name = line.rsplit(' ').next().unwrap_or_default();
            assert_eq!(path(name)?, SHARED.contains(&name), "{name} after the removal");
        }
        assert!(!path("/usr/lib/.build-id")?, "build ids are left");
        AGENTS.iter().try_for_each(|agent| is_gone(&node, agent))
    })
}

/// Each shell is asked what comes next, as by its tabulator key.
fn shells_complete(node: &Node) -> Result<()> {
    let directory = "/usr/share/bash-completion/completions";
    for (words, expected) in [
        ("hvmail_ha pref", "preflight"),
        ("hvmail_ha status --nag", "--nagios"),
        ("hvmail_make_secondary --st", "--stop"),
        ("hvmail_make_primary --accept-data-loss datab", "database"),
    ] {
        let command = words.split(' ').next().unwrap_or_default();
        let ask = format!(
            "source {directory}/{command}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {command} \"${{COMP_WORDS[-1]}}\" \
             \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        assert_eq!(node.text(&["bash", "-c", &ask])?.trim(), expected, "{words}");
        let fish = node.text(&["fish", "-c", &format!("complete -C '{words}'")])?;
        assert!(fish.lines().any(|line| line.split('\t').next() == Some(expected)), "{words}: {fish}");
        let page = format!("/usr/share/zsh/site-functions/_{command}");
        // As compinit has it loaded.
        let load = format!("fpath=(/usr/share/zsh/site-functions $fpath); autoload -Uz +X _{command} && zsh -n {page}");
        node.text(&["zsh", "-f", "-c", &load])?;
        assert!(node.read_file(&page)?.starts_with(&format!("#compdef {command}\n")));
    }
    Ok(())
}

/// systemd reads it without a complaint, and it is not enabled by its installation.
fn the_unit_is_sound(node: &Node) -> Result<()> {
    let unit = "hvmail-secondary.service";
    let verified = node.run(&["systemd-analyze", "verify", &format!("/usr/lib/systemd/system/{unit}")])?;
    assert_eq!((verified.code(), verified.all().as_str()), (Some(0), ""));
    let enabled = node.run(&["systemctl", "is-enabled", unit])?;
    assert_eq!(enabled.stdout.trim(), "disabled", "{}", enabled.all());
    // What it runs finds nothing here, and no cluster.
    let boot = node.run(&["hvmail_make_secondary", "--boot"])?;
    assert!(boot.code() == Some(0) && boot.stdout.contains("nothing of the pair is active here"), "{}", boot.all());
    Ok(())
}

fn is_gone(node: &Node, agent: &str) -> Result<()> {
    let described = node.run(&["pcs", "resource", "describe", &format!("ocf:greenarrow:{agent}")])?;
    assert_eq!(described.code(), Some(1), "{}", described.all());
    let words = "is not installed or does not provide valid metadata";
    assert!(described.stderr.contains(words), "{}", described.stderr);
    Ok(())
}

/// The tools of an administrator find the agent, its meta-data and its man page.
fn is_found(node: &Node, agent: &str, parameter: &str) -> Result<()> {
    let name = format!("ocf:greenarrow:{agent}");
    let pcs = node.text(&["pcs", "resource", "describe", &name])?;
    assert!(pcs.starts_with(&format!("{name} - ")) && pcs.contains(&format!("\n  {parameter} ")), "{pcs}");
    let listed = node.text(&["pcs", "resource", "list", "ocf:greenarrow"])?;
    assert!(listed.lines().any(|line| line.starts_with(&format!("{name} - "))), "{listed}");
    let crm = node.text(&["crm", "ra", "info", &name])?;
    // A star marks what has to be set.
    let shown = [format!("\n{parameter} ("), format!("\n{parameter}* (")];
    assert!(shown.iter().any(|line| crm.contains(line)), "{crm}");
    let metadata = node.text(&["crm_resource", "--show-metadata", &name])?;
    let kept = node.read_file(&format!("/usr/share/resource-agents-greenarrow/metadata/{agent}.xml"))?;
    assert_eq!(metadata.trim_end(), kept.trim_end());
    // Where it is, not what is in it: man would leave a formatted copy that is not the package's.
    let page = node.text(&["man", "--where", &format!("ocf_greenarrow_{agent}")])?;
    assert_eq!(page, format!("/usr/share/man/man7/ocf_greenarrow_{agent}.7.gz\n"));
    Ok(())
}

/// A changed file is seen by rpm --verify; otherwise its silence proves nothing.
fn is_verified(node: &Node) -> Result<()> {
    let changed = "/usr/share/resource-agents-greenarrow/metadata/primary-ips.xml";
    let file = node.path(changed)?;
    fs::write(&file, fs::read_to_string(&file)? + "x\n")?;
    let verified = node.run(&["rpm", "--verify", "--nodeps", PACKAGE])?;
    assert_eq!((verified.code(), verified.stdout.as_str()), (Some(1), &*format!("S.5....T.    {changed}\n")));
    Ok(())
}
