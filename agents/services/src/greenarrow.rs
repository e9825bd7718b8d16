//! GreenArrow's own programs, which know things about it that supervise does not.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use ocf::{Deadline, Program, Run};

/// Where GreenArrow's programs look for each other.
const SEARCHED: &str = "/var/hvmail/bin:/var/hvmail/djb/bin";
/// So much of a program's words is shown in an exit reason.
const SHOWN: usize = 300;

/// Whether the program is there and may be run as root. One that is missing is no error: GreenArrow's own choice of what
/// it installs.
pub(crate) fn usable(path: &Path) -> Result<bool> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(anyhow!("cannot look at {shown}: {error}")),
        Ok(facts) if !facts.is_file() || facts.mode() & 0o111 == 0 => bail!("{shown} is not an executable file"),
        Ok(facts) if facts.uid() != 0 || facts.mode() & 0o022 != 0 => bail!(
            "{shown} is not run: others than root may write it (owner {}, mode {:o}); chown root and chmod go-w it",
            facts.uid(),
            facts.mode() & 0o7777
        ),
        Ok(_) => Ok(true),
    }
}

/// Runs the MTA's control program, if there is one, and passes its progress on to the log. False when there is none.
pub(crate) fn control_mta(run: &Run, path: &Path, word: &str, deadline: Deadline) -> Result<bool> {
    if !usable(path)? {
        return Ok(false);
    }
    let shown = format!("{} {word}", path.display());
    run.log.info(&format!("{shown} is run"));
    let mut tell = |line: &str| {
        let line = without_colours(line);
        if !line.trim().is_empty() {
            run.log.info(&format!("{shown}: {}", line.trim()));
        }
    };
    let output = program(path).args([word]).run_telling(deadline, &mut tell)?;
    if !output.status.success() {
        bail!("{shown} failed ({}): {}", output.status, words(&output.stdout, &output.stderr));
    }
    Ok(true)
}

/// What is wrong by the word of GreenArrow's status program; None when nothing is, or there is no such program.
pub(crate) fn complaint(path: &Path, deadline: Deadline) -> Option<String> {
    let shown = path.display();
    match usable(path) {
        Ok(false) => return None,
        Ok(true) => {}
        Err(error) => return Some(format!("{error:#}")),
    }
    match program(path).run(deadline) {
        Err(error) => Some(format!("{error:#}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{shown} ({}): {}", output.status, words(&output.stdout, &output.stderr))),
    }
}

fn program(path: &Path) -> Program {
    let path_of_programs = format!("{SEARCHED}:{}", Program::search_path());
    Program::new(&path.to_string_lossy()).variable("PATH", &path_of_programs)
}

/// Both outputs in one line, of which the end is kept: that is where what is wrong stands as a rule.
fn words(stdout: &str, stderr: &str) -> String {
    let text = without_colours(&format!("{stdout}\n{stderr}"));
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = text.chars().count();
    if count == 0 {
        return "it said nothing".to_owned();
    }
    let kept: String = text.chars().skip(count.saturating_sub(SHOWN)).collect();
    if count > SHOWN { format!("…{kept}") } else { kept }
}

/// Without the control sequences of a terminal (ECMA-48, 5.4: `ESC [`, parameters, a final byte from @ to ~).
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\u{1b}' {
            plain.push(character);
        } else if rest.next() == Some('[') {
            // `find` takes what it passes over.
            let _ = rest.find(|c| ('@'..='~').contains(c));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_no_words() {
        assert_eq!(without_colours("a \u{1b}[1;31mDOWN\u{1b}[0m b\u{1b}"), "a DOWN b");
        assert_eq!(without_colours("\u{1b}[31"), "");
    }

    #[test]
    fn the_end_of_many_words_is_kept() {
        assert_eq!(words("", " \n"), "it said nothing");
        assert_eq!(words("a\n b", "c"), "a b c");
        let long = words(&"x".repeat(1000), "the end");
        assert!(long.starts_with('…') && long.ends_with("the end") && long.chars().count() == SHOWN + 1);
    }

    #[test]
    fn what_others_may_write_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("services-greenarrow-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let with = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            usable(&path)
        };
        assert!(with(0o644).unwrap_err().to_string().contains("not an executable"));
        assert!(with(0o775).unwrap_err().to_string().contains("others than root may write it"));
        fs::remove_file(&path).unwrap();
        assert!(!usable(&path).unwrap());
    }
}
