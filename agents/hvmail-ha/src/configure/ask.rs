//! The same options as on the command line, in answer to questions.

use std::io::{BufRead, Write};

use anyhow::{Result, bail, ensure};

use crate::configure::Form;
use crate::configure::model::breaks;
use crate::configure::options::{self, Fence, Mount, Options};
use crate::configure::text::{NARROW, wrapped};

/// The answer that leaves a part out.
const NONE: &str = "none";
/// The answer that goes on without fencing.
const WITHOUT: &str = "without fencing";

/// The two ends of a conversation.
pub(crate) struct Conversation<'a> {
    pub(crate) input: &'a mut dyn BufRead,
    pub(crate) output: &'a mut dyn Write,
}

impl Conversation<'_> {
    /// Asks for everything; `known` are the answers of who only presses Enter.
    pub(crate) fn hold(&mut self, known: &Options, form: Form) -> Result<(Options, Form)> {
        writeln!(
            self.output,
            "Enter takes what is in brackets; {NONE} leaves a part out; Ctrl-C ends it. Nothing is changed."
        )?;
        let form = self.ask("Form (crm, pcs, xml)", form.word(), Form::of)?;
        let nodes = known.nodes.iter().map(|node| {
            node.address.as_ref().map_or_else(|| node.name.clone(), |address| format!("{}={address}", node.name))
        });
        let nodes = self.list("Nodes (NAME=ADDRESS …)", nodes, options::node)?;
        let drbd = self.list("DRBD resources", known.drbd.iter().cloned(), options::drbd)?;
        let mounts = known.mounts.iter().map(shown);
        let mounts = self.list("File systems (DEVICE:DIRECTORY:TYPE …)", mounts, options::mount)?;
        let database = self.maybe("Data directory of PostgreSQL", known.database.as_deref(), options::path)?;
        let ip_file = self.maybe("File with the addresses", known.ip_file.as_deref(), options::path)?;
        let pattern = |text: &str| options::sound(text).map(str::to_owned);
        let services = self.maybe("Pattern of the services", known.services.as_deref(), pattern)?;
        let alerts = self.list("Programs for alerts (paths)", known.alerts.iter().cloned(), options::path)?;
        let of_parts = |agent: &str| match agent {
            "postgresql" => database.is_some(),
            "primary-ips" => ip_file.is_some(),
            "services" => services.is_some(),
            _ => !drbd.is_empty(),
        };
        let settings = known.settings.iter().filter(|setting| of_parts(&setting.agent)).cloned().collect();
        let mut wanted =
            Options { nodes, drbd, mounts, database, ip_file, services, settings, alerts, ..Options::default() };
        wanted.check()?;
        self.fencing(&mut wanted)?;
        Ok((wanted, form))
    }

    fn fencing(&mut self, wanted: &mut Options) -> Result<()> {
        loop {
            for node in wanted.nodes.clone() {
                let device = |text: &str| -> Result<Option<Fence>> {
                    if text == NONE { Ok(None) } else { options::fence(&format!("{}={text}", node.name)).map(Some) }
                };
                let text =
                    format!("Fencing device of {} (AGENT:NAME=VALUE,NAME=VALUE; it is shown as you type)", node.name);
                wanted.fences.extend(self.ask(&text, NONE, device)?);
            }
            if wanted.unfenced().is_empty() {
                return Ok(());
            }
            writeln!(self.output, "{} cannot be fenced. What will break:", wanted.unfenced().join(" and "))?;
            for line in breaks(wanted).iter().flat_map(|what| wrapped(what, NARROW)) {
                writeln!(self.output, "{line}")?;
            }
            wanted.fences.clear();
            let answer =
                self.ask(&format!("To go on all the same, type: {WITHOUT}"), "ask again", |text| Ok(text.to_owned()))?;
            if answer == WITHOUT {
                wanted.without_fencing = true;
                return Ok(());
            }
        }
    }

    fn list<T>(
        &mut self,
        text: &str,
        known: impl Iterator<Item = String>,
        parse: fn(&str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let known = known.collect::<Vec<_>>().join(" ");
        let all = |answer: &str| match answer {
            NONE => Ok(Vec::new()),
            answer => answer.split_whitespace().map(parse).collect(),
        };
        self.ask(text, if known.is_empty() { NONE } else { &known }, all)
    }

    fn maybe(
        &mut self,
        text: &str,
        known: Option<&str>,
        parse: impl Fn(&str) -> Result<String>,
    ) -> Result<Option<String>> {
        let one = |answer: &str| if answer == NONE { Ok(None) } else { parse(answer).map(Some) };
        self.ask(text, known.unwrap_or(NONE), one)
    }

    /// Until the answer can be understood.
    fn ask<T>(&mut self, text: &str, known: &str, parse: impl Fn(&str) -> Result<T>) -> Result<T> {
        loop {
            write!(self.output, "{text} [{known}]: ")?;
            self.output.flush()?;
            let mut line = String::new();
            ensure!(
                self.input.read_line(&mut line)? > 0,
                "the answers ended before the questions; nothing was printed"
            );
            let answer = if line.trim().is_empty() { known } else { line.trim() };
            match parse(answer) {
                Ok(value) => return Ok(value),
                Err(error) => writeln!(self.output, "  {error:#}")?,
            }
        }
    }
}

fn shown(mount: &Mount) -> String {
    let options = mount.options.as_ref().map_or_else(String::new, |options| format!(":{options}"));
    format!("{}:{}:{}{options}", mount.device, mount.directory, mount.kind)
}

impl Form {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Crm => "crm",
            Self::Pcs => "pcs",
            Self::Xml => "xml",
        }
    }

    fn of(word: &str) -> Result<Self> {
        let all = [Self::Crm, Self::Pcs, Self::Xml];
        let Some(form) = all.into_iter().find(|form| form.word() == word) else { bail!("{word:?}: crm, pcs or xml") };
        Ok(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(answers: &str, known: &Options) -> (Result<(Options, Form)>, String) {
        let (mut input, mut output) = (answers.as_bytes(), Vec::new());
        let held = Conversation { input: &mut input, output: &mut output }.hold(known, Form::Crm);
        (held, String::from_utf8(output).unwrap())
    }

    fn known() -> Options {
        Options {
            nodes: ["n1=192.0.2.1", "n2=192.0.2.2"].map(|text| options::node(text).unwrap()).into(),
            mounts: vec![options::mount("/dev/drbd0:/srv:xfs:noatime").unwrap()],
            ip_file: Some("/etc/hvmail_primary_ips".to_owned()),
            settings: vec![options::setting("postgresql:control=daemontools").unwrap()],
            ..Options::default()
        }
    }

    #[test]
    fn enter_takes_what_is_known() {
        let (held, said) = hold("\n\n\n\n\n\n\n\nfence_x:ip=192.0.2.9\nfence_x\n", &known());
        let (options, form) = held.unwrap();
        let mut expected = Options { settings: Vec::new(), ..known() };
        expected.fences = ["n1=fence_x:ip=192.0.2.9", "n2=fence_x"].map(|text| options::fence(text).unwrap()).into();
        assert_eq!((options, form), (expected, Form::Crm));
        assert!(
            said.contains("[n1=192.0.2.1 n2=192.0.2.2]") && said.contains("[/dev/drbd0:/srv:xfs:noatime]"),
            "{said}"
        );
    }

    #[test]
    fn a_wrong_answer_is_asked_for_again_and_no_fencing_has_to_be_typed() {
        let (held, said) = hold("yaml\npcs\n\nnone\nnone\n/data\n\nnone\n\n\n\n\n\n\nwithout fencing\n", &known());
        let (options, form) = held.unwrap();
        assert_eq!((form, options.without_fencing, options.mounts.len()), (Form::Pcs, true, 0));
        assert_eq!((options.database.as_deref(), options.services), (Some("/data"), None));
        assert_eq!(options.settings.len(), 1);
        assert!(said.contains("\"yaml\": crm, pcs or xml"), "{said}");
        assert_eq!(said.matches("n1 and n2 cannot be fenced. What will break:").count(), 2, "{said}");
    }

    /// The answers are typed, and so are not in it.
    #[test]
    fn the_screens_of_the_questions_are_as_they_were() {
        let answers = "yaml\n\n\nnone\n\n/data\n\n\n\n\n\nwithout fencing\n";
        let (held, said) = hold(answers, &known());
        held.unwrap();
        let said = said.replace("]: ", "]: \n");
        assert!(said.lines().all(|line| line.chars().count() <= 110), "{said}");
        crate::captured::is_as_kept("configure-questions", &said);
    }

    #[test]
    fn the_end_of_the_answers_ends_it() {
        assert!(hold("crm\n", &known()).0.unwrap_err().to_string().contains("nothing was printed"));
    }
}
