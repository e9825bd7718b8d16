//! What the operator gives up for one move, and no other: what a primary that is gone has acknowledged alone. Its word, the
//! attribute NAME-lacks, keeps the node from being promoted.

use anyhow::Result;

use super::Work;
use crate::cib::Lacks;
use crate::crm_mon::Instance;
use crate::tools;

impl Work<'_> {
    /// Takes the word away.
    pub(crate) fn give_up(&mut self, lacks: &Lacks) -> Result<()> {
        self.given_up = Some(lacks.clone());
        forget(lacks)?;
        tools::cleanup(&lacks.resource, &lacks.node)?;
        self.say(&format!("what {} acknowledged alone is given up", lacks.author));
        Ok(())
    }

    /// Puts it back. Whatever was promoted without it has, by definition, everything.
    pub(super) fn give_back(&mut self) {
        let Some(lacks) = self.given_up.clone().filter(|_| !self.given_back) else { return };
        let Lacks { node, resource, author } = &lacks;
        let state = tools::state().unwrap_or_default();
        let there = |one: &Instance| one.resource == *resource && one.node.as_deref() == Some(node);
        if state.instances.iter().any(|one| there(one) && one.role == "Promoted" && !one.failed) {
            self.say(&format!("{resource} is promoted on {node}: what {author} acknowledged alone stays given up"));
            return;
        }
        let said = match tools::set_attribute(node, &format!("{resource}-lacks"), author) {
            Ok(()) => format!("what {author} acknowledged alone is not given up any more"),
            Err(error) => format!(
                "that what {author} acknowledged alone is given up could not be taken back: {error:#}; \
                 crm_attribute --lifetime forever --node {node} --name {resource}-lacks --update {author}"
            ),
        };
        self.given_back = true;
        self.say(&said);
    }

    /// The move is over. Where a promotion was under way when the word was put back, and came about all the same, the word is wrong.
    pub(crate) fn end_consent(&mut self, done: bool) -> Result<()> {
        match &self.given_up {
            Some(lacks) if done && self.given_back => forget(lacks),
            Some(_) if !done => {
                self.give_back();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn forget(lacks: &Lacks) -> Result<()> {
    tools::forget_attribute(&lacks.node, &format!("{}-lacks", lacks.resource))
}
