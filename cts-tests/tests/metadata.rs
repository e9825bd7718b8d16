//! What the agents say of themselves: the files in metadata/, the schemas, and everything that reads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cts_tests::cib::Role;
use cts_tests::cluster::Cluster;
use cts_tests::command::command;
use cts_tests::daemontools::Places;
use cts_tests::disk::Item;
use cts_tests::greenarrow::standard_tree;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::{Node, SHARE_IN_NODE};
use cts_tests::subject::{IP_FILE, ip_file};
use cts_tests::xml::Element;
use cts_tests::{installed, network, packages};

const AGENTS: &[&str] = &["drbd", "postgresql", "primary-ips", "services"];

/// Where ocf-tester runs its xmllint (DATADIR in it), because ra-api-1.dtd is there.
const DTD_DIRECTORY: &str = "/usr/share/resource-agents";

/// What pcs checks meta-data against (`pcs/lib/resource_agent/xml.py`).
const PCS_SCHEMA: &str = "/usr/share/pcs/data/ocf-1.1.rng";

/// What an agent prints on this argument, and the file that must hold the same.
fn prints(agent: &str) -> [(&'static str, PathBuf); 2] {
    let metadata = installed::workspace().join("metadata");
    [
        ("meta-data", metadata.join(format!("{agent}.xml"))),
        ("--manual", metadata.join(format!("man/ocf_greenarrow_{agent}.7"))),
    ]
}

fn printed(agent: &str, argument: &str) -> Result<String> {
    command([installed::agent(agent)?]).arg(argument).bare_environment().text()
}

fn built() -> Result<()> {
    packages::require(packages::CHECKS)?;
    installed::build(AGENTS)
}

#[test]
fn the_files_are_what_the_agents_print() -> Result<()> {
    built()?;
    for agent in AGENTS {
        for (argument, file) in prints(agent) {
            let kept = fs::read_to_string(&file).unwrap_or_default();
            let shown = file.strip_prefix(installed::workspace())?.display();
            ensure!(
                kept == printed(agent, argument)?,
                "{shown} is not what {agent} prints; if the new text is right: cargo run --release -p {agent} -- \
                 {argument} > {shown}"
            );
        }
    }
    Ok(())
}

struct Validation {
    argv: &'static [&'static str],
    /// A change that makes the document wrong by this one, to prove that it looks.
    flaw: (&'static str, &'static str),
}

/// ocf-tester's own command line (METADATA_LINT in it), and pcs's schema.
const VALIDATIONS: &[Validation] = &[
    Validation { argv: &["xmllint", "--noout", "--valid", "-"], flaw: ("shortdesc", "summary") },
    Validation {
        argv: &["xmllint", "--noout", "--nonet", "--relaxng", PCS_SCHEMA, "-"],
        flaw: ("type=\"boolean\"", "type=\"truth\""),
    },
];

fn complaints(argv: &[&str], document: &str) -> Result<String> {
    let output = command(argv).directory(DTD_DIRECTORY).stdin(document).run()?;
    let said = output.all();
    let valid = output.status.success() && ["", "- validates"].contains(&said.trim());
    Ok(if valid { String::new() } else { format!("{}: {}", output.status, said.trim()) })
}

#[test]
fn the_meta_data_is_valid_by_the_dtd_and_by_the_ocf_schema() -> Result<()> {
    built()?;
    for agent in AGENTS {
        let document = printed(agent, "meta-data")?;
        for Validation { argv, flaw: (right, wrong) } in VALIDATIONS {
            assert_eq!(complaints(argv, &document)?, "", "{agent}: {}", argv.join(" "));
            let flawed = document.replace(right, wrong);
            assert_ne!(complaints(argv, &flawed)?, "", "{} accepts {wrong}", argv.join(" "));
        }
    }
    Ok(())
}

#[test]
fn the_man_pages_are_free_of_warnings() -> Result<()> {
    packages::require(packages::CHECKS)?;
    let lint = |page: &Path| -> Result<String> {
        let mandoc = command(["mandoc", "-T", "lint", "-W", "warning"]).arg(page).run()?;
        // All warnings of troff; man's own --warnings alone means a part of them.
        let man = command(["man", "--warnings=w", "-l"]).arg(page).bare_environment().env("MANPAGER", "true").run()?;
        ensure!(man.status.success(), "man cannot format {}: {}", page.display(), man.all());
        Ok(mandoc.all() + &man.stderr)
    };
    for agent in AGENTS {
        let [_, (_, page)] = prints(agent);
        assert_eq!(lint(&page)?, "", "{}", page.display());
        let flawed = std::env::temp_dir().join(format!("flawed-{}.7", std::process::id()));
        fs::write(&flawed, fs::read_to_string(&page)? + ".NO_SUCH_MACRO\n")?;
        let found = lint(&flawed);
        fs::remove_file(&flawed)?;
        assert!(found?.contains("NO_SUCH_MACRO"), "the lint finds nothing");
    }
    Ok(())
}

/// An agent's parameters and their defaults, by its own word.
fn parameters(agent: &str) -> Result<Vec<(String, Option<String>)>> {
    let document = Element::parse(&printed(agent, "meta-data")?)?;
    let parameter = |one: &Element| {
        let content = one.first("content").with_context(|| format!("{} has no content", one.get("name")))?;
        Ok((one.get("name").to_owned(), content.attributes.get("default").cloned()))
    };
    document.all("parameter").into_iter().map(parameter).collect()
}

#[test]
fn the_tools_of_an_administrator_read_the_meta_data() -> Result<()> {
    packages::require(packages::CHECKS)?;
    enter(Isolation::Cluster(AGENTS), || {
        let node = Node::new(1, 1)?;
        node.power_on()?;
        for agent in AGENTS {
            node.install(&installed::agent(agent)?, &format!("{}/{agent}", installed::PROVIDER_DIRECTORY), 0o755)?;
            let name = format!("ocf:greenarrow:{agent}");
            let shown = node.text(&["crm_resource", "--show-metadata", &name])?;
            assert_eq!(shown.trim_end(), printed(agent, "meta-data")?.trim_end());
            let crm = silent(&node, &["crm", "ra", "info", &name])?;
            let pcs = silent(&node, &["pcs", "resource", "describe", &name, "--full"])?;
            for (parameter, default) in parameters(agent)? {
                shown_by_crm(&crm, &parameter, default.as_deref())?;
                shown_by_pcs(&pcs, &parameter)?;
            }
        }
        Ok(())
    })
}

/// Standard output of a tool that must have no complaint.
fn silent(node: &Node, argv: &[&str]) -> Result<String> {
    let output = node.run(argv)?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{}: {}", argv.join(" "), output.all());
    Ok(output.stdout)
}

/// `NAME (TYPE, [DEFAULT]): SHORT`, or `NAME* (…)` where it is required.
fn shown_by_crm(text: &str, parameter: &str, default: Option<&str>) -> Result<()> {
    let heading = text.lines().find(|line| line.split([' ', '*']).next() == Some(parameter) && line.contains("): "));
    let heading = heading.with_context(|| format!("crm ra info does not show {parameter}:\n{text}"))?;
    let expected = default.map_or("): ".to_owned(), |default| format!(", [{default}]): "));
    ensure!(heading.contains(&expected), "crm ra info shows no {expected:?} of {parameter}: {heading}");
    Ok(())
}

/// `  NAME: …` or `  NAME (…): …`; pcs prints no defaults.
fn shown_by_pcs(text: &str, parameter: &str) -> Result<()> {
    let shown = |line: &str| {
        let rest = line.strip_prefix("  ").and_then(|line| line.strip_prefix(parameter));
        rest.is_some_and(|rest| rest.starts_with([':', ' ']) && rest.contains(": "))
    };
    ensure!(text.lines().any(shown), "pcs resource describe does not show {parameter}:\n{text}");
    Ok(())
}

/// An agent's man page has a configuration to copy, for crm and for pcs.
struct Example {
    agent: &'static str,
    /// What the resource is called there.
    id: &'static str,
    /// What the agent looks after, on every node.
    items: fn() -> Vec<Item>,
}

const EXAMPLES: &[Example] = &[
    Example {
        agent: "primary-ips",
        id: "ips",
        items: || vec![Item::file(IP_FILE, ip_file(&network::service_ipv4(3)))],
    },
    Example { agent: "services", id: "mail", items: || standard_tree(Places::greenarrow()).items() },
];

#[test]
fn the_man_pages_configurations_make_promotable_clones() -> Result<()> {
    packages::require(packages::CHECKS)?;
    enter(Isolation::Cluster(AGENTS), || {
        let mut builder = Cluster::builder(2);
        for example in EXAMPLES {
            builder = builder.agent(example.agent)?.items((example.items)());
        }
        let cluster = builder.start()?;
        cluster.wait_quorum(2)?;
        cluster.wait_idle()?;
        let outcome = EXAMPLES.iter().try_for_each(|example| {
            let tried = example.with_crm(&cluster).and_then(|()| example.with_pcs(&cluster));
            tried.with_context(|| format!("the example for {}", example.agent))
        });
        outcome.with_context(|| cluster.dump())
    })
}

impl Example {
    /// The text behind `heading` in the agent's man page, as a reader copies it.
    fn text(&self, heading: &str) -> Result<String> {
        let page = printed(self.agent, "--manual")?;
        let behind = page.split(&format!("{heading}\n.PP\n.RS 4\n.nf\n")).nth(1);
        let text = behind.and_then(|rest| rest.split(".fi").next());
        let text = text.with_context(|| format!("the man page has no example under `{heading}`"))?;
        Ok(text.replace("\\e", "\\").replace("\\-", "-"))
    }

    fn with_crm(&self, cluster: &Cluster) -> Result<()> {
        let (node, id, clone) = (cluster.any()?, self.id, format!("{}-clone", self.id));
        fs::write(node.share().join("example.crm"), self.text("With crm:")?)?;
        let said = silent(node, &["crm", "configure", "load", "update", &format!("{SHARE_IN_NODE}/example.crm")])?;
        ensure!(said.is_empty(), "crm has something to say: {said}");
        self.promoted(cluster)?;
        let (made, advertised) = (self.operations(node)?, self.advertised()?);
        ensure!(made.iter().all(|one| advertised.contains(one)), "crm made {made:#?}, advertised are {advertised:#?}");
        node.text(&["crm", "resource", "stop", &clone])?;
        cluster.wait_status("the clone to stop", |status| status.instances.iter().all(|one| one.resource != id))?;
        silent(node, &["crm", "configure", "delete", &clone, id]).map(drop)
    }

    fn with_pcs(&self, cluster: &Cluster) -> Result<()> {
        let node = cluster.any()?;
        let argv = self.text("With pcs:")?;
        let said = silent(node, &argv.replace("\\\n", "").split_whitespace().collect::<Vec<_>>())?;
        ensure!(said.is_empty(), "pcs has something to say: {said}");
        self.promoted(cluster)?;
        assert_eq!(self.operations(node)?, self.advertised()?, "what pcs made of the meta-data");
        Ok(())
    }

    /// The actions in the meta-data that are operations of a resource, in the form of [`Self::operations`].
    fn advertised(&self) -> Result<Vec<String>> {
        let document = Element::parse(&printed(self.agent, "meta-data")?)?;
        let actions = document.all("action").into_iter();
        let operations = actions.filter(|action| !["meta-data", "validate-all"].contains(&action.get("name")));
        let or = |value: &str, otherwise: &str| if value.is_empty() { otherwise.to_owned() } else { value.to_owned() };
        let shown = |action: &Element| {
            let (interval, level) = (or(action.get("interval"), "0s"), or(action.get("depth"), "0"));
            [action.get("name"), &interval, action.get("role"), action.get("timeout"), &level].join(" ")
        };
        let mut operations: Vec<_> = operations.map(shown).collect();
        operations.sort();
        Ok(operations)
    }

    /// The resource's operations in the cluster's configuration: name, interval, role, timeout and check level.
    fn operations(&self, node: &Node) -> Result<Vec<String>> {
        let cib = Element::parse(&node.text(&["cibadmin", "--query", "--scope", "resources"])?)?;
        let own = |clone: &&Element| clone.first("primitive").is_some_and(|one| one.get("id") == self.id);
        let clone = cib.all("clone").into_iter().find(own);
        let clone = clone.with_context(|| format!("{} is in no clone", self.id))?;
        let shown = |op: &Element| {
            let level = op.all("nvpair").into_iter().find(|pair| pair.get("name") == "OCF_CHECK_LEVEL");
            let level = level.map_or("0", |pair| pair.get("value"));
            [op.get("name"), op.get("interval"), op.get("role"), op.get("timeout"), level].join(" ")
        };
        let mut operations: Vec<_> = clone.all("op").into_iter().map(shown).collect();
        operations.sort();
        Ok(operations)
    }

    fn promoted(&self, cluster: &Cluster) -> Result<()> {
        let what = format!("{} to be promoted on one node and unpromoted on the other", self.id);
        cluster.wait_status(&what, |status| {
            status.in_role(self.id, Role::Promoted).len() == 1 && status.in_role(self.id, Role::Unpromoted).len() == 1
        })?;
        let status = cluster.status().context("the cluster does not answer")?;
        ensure!(status.failures.is_empty(), "actions failed: {:?}", status.failures);
        Ok(())
    }
}
