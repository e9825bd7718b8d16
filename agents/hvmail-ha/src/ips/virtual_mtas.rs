//! The addresses that GreenArrow sends from: its VirtualMTAs, as far as they are in its configuration files.
//!
//! The format is that of greenarrow.conf (vendor's documentation, "Configuration File"): directives of words, one a line, in
//! blocks of braces; a `#` begins a comment as the first character of a line only; a word in quotation marks has JSON's
//! escapes. Of all that, blocks `ip_address NAME { smtp_source ADDRESS HOST }` are looked for, in any bytes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::listed::{Found, bytes};

/// GreenArrow's configuration, greenarrow.conf among it.
pub(crate) const USUAL_PLACE: &str = "/var/hvmail/control";
/// No file of settings is larger.
const LARGEST: u64 = 4 << 20;
/// No configuration has more files, or deeper directories.
const MOST: usize = 4096;
const DEEPEST: usize = 8;
/// Of a word from the file, so much is shown.
const SHOWN: usize = 60;
/// So many of them are noted one by one.
const NOTED: usize = 20;

/// What was found below a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtualMtas {
    pub(crate) place: PathBuf,
    /// The address of each, with the VirtualMTA's name, the file and the line.
    pub(crate) found: Vec<Found>,
    /// What could not be read or understood.
    pub(crate) odd: Vec<String>,
    /// There is nothing at all, and why; and whether something was to be there.
    pub(crate) missing: Option<(String, bool)>,
}

/// A VirtualMTA's address in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// The word that stands there, where it is no address.
    pub(crate) address: Result<IpAddr, String>,
    /// From 1.
    pub(crate) line: usize,
}

impl VirtualMtas {
    /// Reads a file, or all files below a directory. A link is followed at the top only (GreenArrow's persisted directories
    /// are links), and beneath it no further.
    pub(crate) fn read(place: &Path, named: bool) -> Self {
        let mut all = Self { place: place.to_owned(), ..Self::default() };
        match fs::metadata(place) {
            Err(error) => all.missing = Some((format!("{}: {error}", place.display()), named)),
            Ok(facts) if facts.is_dir() => {
                let mut left = MOST;
                all.directory(place, DEEPEST, &mut left);
                if left == 0 {
                    all.odd
                        .push(format!("{} has more than {MOST} files: the rest is not looked into", place.display()));
                }
            }
            Ok(_) => all.file(place),
        }
        all
    }

    fn directory(&mut self, path: &Path, depth: usize, left: &mut usize) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.odd.push(format!("{}: {error}", path.display())),
        };
        let mut entries: Vec<_> = entries.flatten().take(*left).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Some(rest) = left.checked_sub(1) else { return };
            *left = rest;
            match entry.file_type() {
                Ok(kind) if kind.is_file() => self.file(&path),
                Ok(kind) if kind.is_dir() && depth > 1 => self.directory(&path, depth - 1, left),
                Ok(kind) if kind.is_dir() => {
                    self.odd.push(format!("{} is {DEEPEST} directories deep: not looked into", path.display()));
                }
                Ok(kind) if kind.is_symlink() => self.link(&path),
                _ => {}
            }
        }
    }

    fn link(&mut self, path: &Path) {
        let inside = fs::canonicalize(&self.place).and_then(|top| Ok(fs::canonicalize(path)?.starts_with(top)));
        // What it leads to inside is found there; one that leads nowhere hides nothing.
        if inside.is_ok_and(|inside| !inside) {
            self.odd.push(format!("{} leads out of {}: not followed", path.display(), self.place.display()));
        }
    }

    fn file(&mut self, path: &Path) {
        let content = match bytes(path, LARGEST) {
            Ok(content) => content,
            Err(error) => return self.odd.push(format!("{error:#}")),
        };
        for source in sources(&content) {
            let at = format!("{} ({}:{})", source.name, path.display(), source.line);
            match source.address {
                Ok(address) => self.found.push(Found { address, prefix: None, interface: None, at }),
                Err(_) if self.odd.len() > NOTED => {}
                Err(word) => self.odd.push(format!("VirtualMTA {at}: {word:?} is no address: not compared")),
            }
        }
    }
}

/// What is expected next.
enum Expected {
    Anything,
    Name,
    Brace(String),
    Address(usize),
}

/// The VirtualMTAs of a file.
pub(crate) fn sources(content: &[u8]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut expected = Expected::Anything;
    // The VirtualMTA whose block is open, and how many blocks are open within it.
    let mut block: Option<(String, usize)> = None;
    for (line, text) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        let text = String::from_utf8_lossy(text);
        for word in words(&text) {
            expected = match (expected, word.as_str()) {
                (Expected::Brace(name), "{") => {
                    block = Some((name, 0));
                    Expected::Anything
                }
                (_, "{") => {
                    block = block.map(|(name, depth)| (name, depth + 1));
                    Expected::Anything
                }
                (_, "}") => {
                    block = block.and_then(|(name, depth)| Some((name, depth.checked_sub(1)?)));
                    Expected::Anything
                }
                (Expected::Name, _) => Expected::Brace(shown(&word)),
                (Expected::Address(at), _) => {
                    let address = word.trim_end_matches(';').parse().map_err(|_| shown(&word));
                    let name = block.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
                    found.push(Source { name, address, line: at });
                    Expected::Anything
                }
                (_, "ip_address") if block.is_none() => Expected::Name,
                (_, "smtp_source") if block.is_some() => Expected::Address(line),
                _ => Expected::Anything,
            };
        }
    }
    found
}

/// The words of a line, braces among them, without quotation marks.
fn words(line: &str) -> Vec<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '}' if !quoted => {
                all.extend([std::mem::take(&mut word), c.to_string()]);
            }
            c if c.is_whitespace() && !quoted => all.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    all.push(word);
    all.retain(|word| !word.is_empty());
    all
}

fn shown(word: &str) -> String {
    let one = |c: char| if c.is_control() { '?' } else { c };
    word.chars().take(SHOWN).map(one).collect()
}

#[cfg(test)]
#[path = "virtual_mtas_tests.rs"]
mod tests;
