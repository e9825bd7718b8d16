//! `hvmail_ha completions`: what a shell completes of the commands, from the same definitions as their help.

use clap::{Arg, ArgMatches, Command};
use clap_complete::{Shell, generate};

use crate::command_line::{self, Name};
use crate::make::{DONE, say};

const NAMES: [Name; 3] = [Name::Ha, Name::MakePrimary, Name::MakeSecondary];

const EXAMPLES: &str = "\
Examples:
  source <(hvmail_ha completions bash)     in this shell, for all three commands
  hvmail_ha completions zsh hvmail_ha > /usr/local/share/zsh/site-functions/_hvmail_ha
  hvmail_ha completions fish hvmail_ha > /etc/fish/completions/hvmail_ha.fish

The RPM has them installed for all three.";

pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print what bash, zsh or fish complete of these commands")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(["bash", "zsh", "fish"])
                .help("The shell"),
        )
        .arg(Arg::new("name").value_name("COMMAND").value_parser(NAMES.map(Name::word)).help("Of this command only"))
}

pub(crate) fn run(matches: &ArgMatches) -> u8 {
    let word = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let shell = match word("shell") {
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => Shell::Bash,
    };
    let asked = NAMES.into_iter().filter(|name| word("name").is_none_or(|one| one == name.word()));
    say(asked.map(|name| script(shell, name)).collect::<String>().trim_end(), DONE)
}

fn script(shell: Shell, name: Name) -> String {
    let mut text = Vec::new();
    generate(shell, &mut command_line::command(name), name.word(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for (name, word) in [
            (Name::Ha, "preflight"),
            (Name::Ha, "completions"),
            (Name::MakePrimary, "accept-data-loss"),
            (Name::MakeSecondary, "stop"),
        ] {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                let text = script(shell, name);
                assert!(text.contains(word) && text.contains(name.word()), "{shell} {}: {text}", name.word());
            }
        }
    }
}
