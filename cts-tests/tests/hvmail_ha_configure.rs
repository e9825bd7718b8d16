//! What hvmail_ha configure prints, taken by the tools that it is for: cibadmin, crm and pcs make three configurations of it
//! that are the same by its own comparison and sound by Pacemaker's.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::Output;
use cts_tests::greenarrow_pair::{PROGRAM, ends, with_bare};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::{Node, Owner};
use cts_tests::xml::Element;
use cts_tests::{installed, packages, wait};

const AGENTS: &[&str] = &["drbd", "postgresql", "primary-ips", "services"];
const PACKAGES: &[&str] = &["drbd", "postgresql", "primary-ips", "services", "hvmail-ha"];

/// Before anything is configured.
const EMPTY: &str = "<cib crm_feature_set=\"3.3.0\" validate-with=\"pacemaker-3.9\" admin_epoch=\"0\" epoch=\"1\" \
    num_updates=\"0\" have-quorum=\"1\"><configuration><crm_config/><nodes><node id=\"1\" uname=\"n1\"/><node id=\"2\" uname=\"n2\"/></nodes>\
    <resources/><constraints/></configuration><status>\
    <node_state id=\"1\" uname=\"n1\" in_ccm=\"true\" crmd=\"online\" join=\"member\" expected=\"member\"/>\
    <node_state id=\"2\" uname=\"n2\" in_ccm=\"true\" crmd=\"online\" join=\"member\" expected=\"member\"/></status></cib>";

/// A value that every form has to quote; of a parameter that the fence agent of the rig has.
const AWKWARD: &str = "plug=it's \"a\" $x `id` & <y> \\\\ #z";

/// What pcs says of every constraint that it adds, of every location in a file, of a rule (0.12), and of every default; and what
/// precedes an agent's own words (0.12), which are in lines that begin with white space: this node has nothing of GreenArrow.
const NOISE: &[&str] = &[
    "Adding ",
    "Validating resource options using the resource agent itself is enabled by default",
    "Validation result from agent:",
    "Validation for node existence",
    "Specifying a rule as multiple arguments is deprecated",
    "Defaults do not apply to resources which override",
];

/// Of corosync.conf what the host is asked for.
const NODELIST: &str = "nodelist {\n node {\n ring0_addr: 192.0.2.1\n name: n1\n }\n node {\n ring0_addr: 192.0.2.2\n \
    name: n2\n }\n}\n";

struct Wish {
    name: &'static str,
    words: Vec<String>,
}

fn wishes() -> [Wish; 2] {
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let nodes = ["--node", "n1=192.0.2.1", "--node", "n2=192.0.2.2"];
    let mut full = words(&nodes);
    full.extend(words(&["--drbd", "mail", "--drbd", "web", "--mount", "/dev/drbd0:/srv/a:xfs:noatime", "--database"]));
    full.extend(words(&["--ip-file", "--services", "--set", "services:critical=hvmail-httpd hvmail-qmail-smtpd2"]));
    full.extend(words(&["--set", "postgresql:control=daemontools", "--alert", "/usr/local/bin/tell the.sh"]));
    full.extend(words(&["--fencing-delay=20"]));
    full.extend(["n1", "n2"].map(|node| format!("--fence={node}=fence_rig:{AWKWARD}")));
    let minimal = [words(&nodes), words(&["--ip-file=/etc/ips", "--without-fencing"])].concat();
    [Wish { name: "full", words: full }, Wish { name: "minimal", words: minimal }]
}

impl Wish {
    fn run(&self, node: &Node, more: &[&str]) -> Result<Output> {
        let words: Vec<&str> =
            [PROGRAM, "configure"].into_iter().chain(self.words.iter().map(String::as_str)).collect();
        node.run(&[&words, more].concat())
    }

    /// The configuration that one of the tools makes of what is printed, as a file in the node.
    fn made_by(&self, node: &Node, form: &str) -> Result<String> {
        let (text, cib) = (format!("/run/rig/{}.{form}", self.name), format!("/run/rig/{}-{form}.cib.xml", self.name));
        let printed = self.run(node, &[&format!("--{form}")])?;
        ensure!(printed.code() == Some(0) && printed.stderr.is_empty(), "{}", printed.all());
        node.write_file(&text, &printed.stdout, 0o600, Owner::Root)?;
        node.write_file(&cib, EMPTY, 0o600, Owner::Root)?;
        let argv: &[&str] = match form {
            "crm" => &["crm", "configure", "load", "update", &text],
            "pcs" => &["sh", &text, &cib],
            _ => &["cibadmin", "-M", "-c", "-o", "configuration", "-x", &text],
        };
        // pcs is told the file, and does not take the variable.
        let command = node.command(argv)?;
        let command = if form == "pcs" { command } else { command.env("CIB_file", &cib) };
        let output = command.run()?;
        ensure!(output.code() == Some(0), "{}: {}\n{}", argv.join(" "), output.all(), printed.stdout);
        let noise =
            |line: &&str| form == "pcs" && line.starts_with("  ") || NOISE.iter().any(|noise| line.contains(noise));
        let said: Vec<_> = output.stderr.lines().filter(|line| !noise(line)).collect();
        ensure!(said.is_empty(), "{form} has something to say: {}", output.all());
        // What an agent is asked for here says nothing of the clone that it is to be.
        ensure!(!output.stderr.contains("promotable"), "{}", output.all());
        Ok(cib)
    }
}

fn three_forms(node: &Node) -> Result<()> {
    for wish in wishes() {
        for form in ["crm", "pcs", "xml"] {
            let context = || format!("{} as {form}", wish.name);
            let cib = wish.made_by(node, form).with_context(context)?;
            let verified = node.run(&["crm_verify", "--xml-file", &cib, "-V"])?;
            ensure!(verified.code() == Some(0), "{}: {}", context(), verified.all());
            let same = wish.run(node, &["--check", "--cib", &cib])?;
            ensure!(same.code() == Some(0), "{}: {}\n{}", context(), same.all(), node.read_file(&cib)?);
            ensure!(same.stdout.contains("is as it should be: ocf:"), "{}", same.all());
            if wish.name == "full" {
                let root = Element::parse(&node.read_file(&cib)?)?;
                let values = root.all("nvpair").into_iter().filter(|one| one.get("name") == "plug");
                let values: Vec<_> = values.map(|one| format!("plug={}", one.get("value"))).collect();
                ensure!(values == [AWKWARD, AWKWARD], "{}: {values:?}", context());
            }
        }
    }
    Ok(())
}

/// What Pacemaker's scheduler would do with the full pair once n1 has said that it is the better one.
fn scheduled(node: &Node) -> Result<()> {
    let [full, _] = wishes();
    let cib = full.made_by(node, "xml")?;
    let resources = ["drbd-mail", "drbd-web", "pg", "ips", "mail"];
    let score = |resource| format!("<nvpair id=\"score-{resource}\" name=\"master-{resource}\" value=\"100\"/>");
    let scores = resources.map(score).concat();
    let told = format!(
        "expected=\"member\"><transient_attributes id=\"1\"><instance_attributes id=\"scores\">{scores}\
         </instance_attributes></transient_attributes></node_state>"
    );
    let before = node.read_file(&cib)?;
    ensure!(before.contains("expected=\"member\"/>"), "{before}");
    node.write_file(&cib, before.replacen("expected=\"member\"/>", &told, 1), 0o600, Owner::Root)?;
    let done = node.text(&["crm_simulate", "--xml-file", &cib, "--simulate"])?;
    let (deeds, after) = done.split_once("Revised Cluster Status:").context("crm_simulate shows no result")?;
    ensure!(after.matches("Promoted: [ n1 ]").count() == resources.len(), "not everything is promoted on n1:\n{done}");
    ensure!(after.lines().any(|line| line.contains("fs-srv-a") && line.ends_with("Started n1")), "{done}");
    let chain = ["drbd-web:0 promote", "fs-srv-a start", "pg:0 promote", "ips:0 promote", "mail:0 promote"];
    let deeds: Vec<_> = deeds.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let at = |deed: &str| deeds.iter().position(|line| line.contains(&format!(" {deed} on n1")));
    let places: Vec<_> = ["mail:0 start", "pg:0 start"].into_iter().chain(chain).map(at).collect();
    ensure!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} of {deeds:#?}");
    Ok(())
}

fn refusal_and_difference(node: &Node) -> Result<()> {
    let [full, minimal] = wishes();
    let bare = Wish { name: "bare", words: minimal.words[..5].to_vec() };
    let refused = bare.run(node, &["--crm"])?;
    ensure!(refused.stdout.is_empty(), "{}", refused.stdout);
    let words = ["nothing can switch n1 and n2 off", "both become Primary", "--fence n1=AGENT", "--without-fencing"];
    ends(&refused, 1, &words)?;
    let told = minimal.run(node, &["--crm"])?.stdout;
    ensure!(told.contains("WITHOUT FENCING") && told.contains("stonith-enabled=false"), "{told}");

    let cib = full.made_by(node, "xml")?;
    let changed =
        node.read_file(&cib)?.replacen("name=\"notify\" value=\"true\"", "name=\"notify\" value=\"false\"", 1);
    node.write_file(&cib, changed, 0o600, Owner::Root)?;
    let different = full.run(node, &["--check", "--cib", &cib])?;
    ensure!(different.code() == Some(1) && different.stdout.contains("notify=false"), "{}", different.all());
    let unanswered = node.run(&[PROGRAM, "configure", "--check"])?;
    ensure!(
        unanswered.code() == Some(3) && unanswered.stderr.contains("systemctl status pacemaker"),
        "{}",
        unanswered.all()
    );
    let nothing = node.run(&[PROGRAM, "configure", "--check", "--cib", "/nowhere"])?;
    ensure!(nothing.code() == Some(3) && nothing.stderr.contains("/nowhere"), "{}", nothing.all());
    Ok(())
}

/// On a terminal it asks, and offers what the host has.
fn questions(node: &Node) -> Result<()> {
    node.write_file("/etc/hvmail_primary_ips", "192.0.2.10/24\n", 0o644, Owner::Root)?;
    node.write_file("/etc/corosync/corosync.conf", NODELIST, 0o644, Owner::Root)?;
    let order = ["script", "--quiet", "--return", "--command", "hvmail_ha configure", "/dev/null"];
    let answers = "xml\n\n\n\n\n\n\n\nfence_rig\nfence_rig:port=2\n";
    let asked = node.command(&order)?.stdin(answers).run()?;
    let said = asked.all();
    ensure!(asked.code() == Some(0), "{}: {said}", asked.status);
    for word in ["[n1=192.0.2.1 n2=192.0.2.2]", "[/etc/hvmail_primary_ips]", "<clone id=\"ips-clone\">", "value=\"n2\""]
    {
        ensure!(said.contains(word), "{word:?} is not in {said}");
    }
    // Where nobody can answer it does not ask.
    let silent = node.run(&[PROGRAM, "configure"])?;
    ensure!(silent.code() == Some(3) && silent.stderr.contains("--crm, --pcs or --xml"), "{}", silent.all());
    Ok(())
}

#[test]
fn what_is_printed_is_one_configuration_for_every_tool() -> Result<()> {
    packages::require(packages::CHECKS)?;
    enter(Isolation::Cluster(PACKAGES), || {
        let node = Node::new(1, 1)?;
        node.power_on()?;
        for agent in AGENTS {
            node.install(&installed::agent(agent)?, &format!("{}/{agent}", installed::PROVIDER_DIRECTORY), 0o755)?;
        }
        node.install(&installed::rig_program("fence_rig")?, "/usr/sbin/fence_rig", 0o755)?;
        node.install(&installed::agent(PROGRAM)?, &format!("/usr/sbin/{PROGRAM}"), 0o755)?;
        three_forms(&node)?;
        scheduled(&node)?;
        refusal_and_difference(&node)?;
        questions(&node)
    })
}

/// DRBD that Pacemaker would promote on n2; a Stateful stands for it, whose score is the same on both nodes as well.
fn with_drbd_preferred_on_n2(printed: &str) -> Result<String> {
    let drbd = "class=\"ocf\" provider=\"greenarrow\" type=\"drbd\"";
    ensure!(printed.contains(drbd) && printed.contains("<constraints>"), "{printed}");
    let there =
        "<constraints><rsc_location id=\"there\" rsc=\"drbd-clone\" role=\"Promoted\" node=\"n2\" score=\"3\"/>";
    let stateful = printed.replace(drbd, "class=\"ocf\" provider=\"pacemaker\" type=\"Stateful\"");
    Ok(stateful.replace("<constraints>", there))
}

/// The first start of a chain, where DRBD would go to the node whose database has less of the log: the one with more leads it,
/// and nothing is refused. Nor does it go back when it was moved.
#[test]
fn the_better_database_leads_the_chain() -> Result<()> {
    with_bare(|bare| {
        bare.servers[0].while_running(|| bare.servers[0].sql("CREATE TABLE more AS SELECT 1").map(drop))?;
        let printed = bare.printed(&["--xml", "--drbd=r0", "--mount=tmpfs:/run/chain:tmpfs"])?;
        ensure!(printed.code() == Some(0) && printed.stderr.is_empty(), "{}", printed.all());
        bare.apply(&with_drbd_preferred_on_n2(&printed.stdout)?)?;
        let pair = bare.configured(["drbd", "pg", "mail"])?;
        let constraints = pair.leftovers()?;
        for expected in ["n1", "n2"] {
            let primary = pair.healthy()?;
            ensure!(
                primary.name == expected,
                "{} is Primary, {expected} was to be\n{}",
                primary.name,
                pair.cluster.dump()
            );
            let status = pair.cluster.status().context("no node answers about the cluster")?;
            let failed: Vec<_> = status.failures.iter().filter(|one| !one.is_degraded()).collect();
            ensure!(failed.is_empty(), "{failed:#?}\n{}", pair.cluster.dump());
            ensure!(pair.leftovers()? == constraints, "{constraints:?} were there, and now {:?}", pair.leftovers()?);
            let moved = pair.run(primary, &["hvmail_make_secondary"])?;
            println!("{}", moved.all());
            ensure!(moved.code() == Some(0), "{}", moved.all());
        }
        ensure!(pair.healthy()?.name == "n1" && pair.lost_rows()? == 0, "{}", pair.cluster.dump());
        Ok(())
    })
}

/// Two nodes lose sight of each other, and each orders the other's fencing: with the delay the Primary survives, though it is the
/// second node, whose own device does not wait.
#[test]
fn a_partition_spares_the_primary() -> Result<()> {
    with_bare(|bare| {
        let first = bare.cluster.nodes[0].clone();
        let printed = bare.printed(&["--xml", "--fencing-delay=10"])?;
        bare.apply(&printed.stdout)?;
        let pair = bare.configured(["pg", "ips", "mail"])?;
        if pair.healthy()?.name == first.name {
            let moved = pair.run(&first, &["hvmail_make_secondary"])?;
            ensure!(moved.code() == Some(0), "{}", moved.all());
        }
        let (primary, began) = (pair.healthy()?, Instant::now());
        ensure!(primary.name == "n2", "{} is Primary", primary.name);
        pair.cluster.nodes.iter().try_for_each(|node| node.part())?;
        let fenced = || Ok(pair.cluster.switch.since(began).first().cloned());
        let (fenced, _) = wait::until_some("a fencing", SETTLE, wait::QUICK, fenced)?;
        ensure!(fenced.target == "n1" && fenced.by == "n2", "{fenced:?}\n{}", pair.cluster.dump());
        ensure!(pair.healthy()?.name == "n2", "the role was moved\n{}", pair.cluster.dump());
        let (fencings, lost) = (pair.cluster.switch.since(began), pair.lost_rows()?);
        ensure!(fencings.len() == 1 && lost == 0, "{lost} acknowledged rows are lost; {fencings:#?}");
        Ok(())
    })
}

/// What is printed, as its own heading says it is applied, brings up a pair that serves, fails over and has nothing to be
/// seen to.
#[test]
fn a_cluster_without_a_configuration_becomes_a_pair_that_serves() -> Result<()> {
    with_bare(|bare| {
        let printed = bare.printed(&["--xml"])?;
        ensure!(printed.code() == Some(0) && printed.stderr.is_empty(), "{}", printed.all());
        bare.apply(&printed.stdout)?;
        let same = bare.printed(&["--check"])?;
        ensure!(same.code() == Some(0), "{}", same.all());
        let pair = bare.configured(["pg", "ips", "mail"])?;
        let old = pair.healthy()?;
        let status = pair.run(old, &[PROGRAM, "status"])?;
        ensure!(status.code() == Some(0) && status.stdout.contains("nothing has to be seen to"), "{}", status.all());
        let new = pair.cluster.peer(old)?;
        let moved = pair.run(old, &["hvmail_make_secondary"])?;
        println!("{}", moved.all());
        ensure!(moved.code() == Some(0) && pair.healthy()?.name == new.name, "{}", moved.all());
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}
