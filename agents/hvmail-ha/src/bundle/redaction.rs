//! Secrets taken out of what is collected: by what stands before them, and then wherever the same words stand again.

use std::collections::BTreeSet;

use regex::bytes::{Captures, Regex};

/// What stands in a secret's place.
const REMOVED: &[u8] = b"[removed]";
/// A shorter secret is not looked for elsewhere: it would be found in the middle of words that are none.
const SHORTEST: usize = 6;
/// Words that are values of parameters whose names sound secret (auth=password of fence_ipmilan), and no secrets.
const WORDS: [&str; 4] = ["password", "passwd", "secret", "disabled"];
/// In the name of a name-value pair of Pacemaker: rather one too many.
const IN_PAIRS: &str = "passw|passphrase|secret|token|community|credential|auth|key";
/// At the end of a name anywhere. Neither "token" alone, a time in corosync.conf, nor "key", a file in postgresql.conf.
const ANYWHERE: &str = "passw(?:or)?d|\\bpass|passphrase(?:_command)?|secrets?|community|credentials?|\
                        (?:api|auth|access|account|secret|private|encryption)[-_]?key|auth[-_]?token|access[-_]?token|\
                        api[-_]?token|[-_]token";
/// In the query of a URL, where names are shorter.
const IN_QUERY: &str = "[a-z_-]*(?:token|key|secret|sig|signature|passw(?:or)?d|pass|pwd|auth)";
/// A value: quoted in any way that these formats have, or up to white space. A quote inside a word does not end it.
/// conninfo strings (libpq, conninfo_parse) escape with \; inside a setting of postgresql.conf a quote is doubled or escaped;
/// pg_hba.conf doubles "; XML has references. A quote that is not closed ends with the line.
const VALUE: &str = r#"(?:''((?:[^'\\\n]|\\.'?)*)''|\\'((?:[^'\\\n]|\\[^'\n])*)|\\"((?:[^"\\\n]|\\[^"\n])*)|&(?:quot|apos|#34|#39);([^\n]*?)&(?:quot|apos|#34|#39);|"((?:[^"\\\n]|\\.|"")*)|'((?:[^'\\\n]|\\.)*)|((?:[^\s'"\\]|\\.|''|'[^\s'",;)\]}]|"[^\s'",;/>)\]}])+))"#;

/// The texts without their secrets, and how many were in each.
pub(crate) fn without_secrets(texts: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, usize)>, regex::Error> {
    let (rules, mut known) = (rules()?, BTreeSet::new());
    let by_rule = |text: Vec<u8>| {
        rules.iter().fold((text, 0), |(text, count), rule| {
            let (text, more) = take_out(&text, rule, &mut |secret| remember(secret, &mut known));
            (text, count + more)
        })
    };
    let mut texts: Vec<_> = texts.into_iter().map(by_rule).collect();
    let Some(again) = any_of(&known)? else { return Ok(texts) };
    for (text, count) in &mut texts {
        let (without, more) = take_out(text, &again, &mut |_| ());
        *text = without;
        *count += more;
    }
    Ok(texts)
}

/// The patterns; each group is a secret, and one of them takes part in a match.
fn rules() -> Result<Vec<Regex>, regex::Error> {
    let pair = "<(?:nvpair|attribute|parameter)\\b";
    let rules = [
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(.*?)(?:-----END|\z)".to_owned(),
        // Of a file whose end alone is here.
        r"\A([^-]*)-----END [A-Z0-9 ]*PRIVATE KEY".to_owned(),
        // Attributes in any order; no value holds a bare <.
        format!(r#"{pair}[^<]*?\bname="[^"]*(?:{IN_PAIRS})[^"]*"[^<]*?\bvalue="([^"]*)""#),
        format!(r#"{pair}[^<]*?\bvalue="([^"]*)"[^<]*?\bname="[^"]*(?:{IN_PAIRS})[^"]*""#),
        // How Pacemaker's log tells of a pair that has changed: its name is only in its id.
        format!(r"nvpair\[@id='[^'\n]*(?:{IN_PAIRS})[^'\n]*'\][^\n]*?@value=([^\n]+)"),
        r#"[a-z0-9]://[^\s:/@"']*:([^\s"'<>]+)@"#.to_owned(),
        format!(r#"(?:[?&]|&amp;){IN_QUERY}=([^\s&"'<>]+)"#),
        r#"\bauthorization\\?["']?[ \t]*[=:][ \t]*\\?["']?(?:basic|bearer)[ \t]+([^\s"'\\]+)"#.to_owned(),
        format!(r#"(?:{ANYWHERE})(?:_?\d+|_string)?\\?["']?[ \t]*[=:][ \t]*{VALUE}"#),
        // Corosync's, in corosync.conf itself (corosync.conf(5), totem.key).
        format!(r"(?m)^[ \t]*key[ \t]*:[ \t]*{VALUE}"),
        // drbd.conf(5). Its usual template lists the names of options in a comment.
        r#"shared-secret\s+(?:"((?:[^"\\\n]|\\.)*)|([^\s";]+)\s*;)"#.to_owned(),
        format!(r"--[\w-]*(?:passw(?:or)?d|secret)[ \t]+{VALUE}"),
        // CREATE ROLE and ALTER ROLE in a log.
        r"\bpassword[ \t]+e?'((?:[^'\n]|'')*)".to_owned(),
        r"(SCRAM-SHA-256\$\S+)|\b(md5[0-9a-f]{32})\b".to_owned(),
    ];
    // Bytes, and ASCII alone: what is looked through may be anything.
    rules.iter().map(|rule| Regex::new(&format!("(?i-u){rule}"))).collect()
}

/// Replaces the group that takes part in each match, or the whole match of a rule without groups.
fn take_out(text: &[u8], rule: &Regex, found: &mut dyn FnMut(&[u8])) -> (Vec<u8>, usize) {
    let mut count = 0;
    let without = rule.replace_all(text, |captures: &Captures| {
        let Some(whole) = captures.get(0) else { return Vec::new() };
        let groups = captures.len() > 1;
        let secret = if groups { captures.iter().skip(1).flatten().next() } else { Some(whole) };
        let Some(secret) = secret.filter(|one| !one.is_empty() && !one.as_bytes().starts_with(REMOVED)) else {
            return whole.as_bytes().to_vec();
        };
        count += 1;
        found(secret.as_bytes());
        let (before, after) = (&text[whole.start()..secret.start()], &text[secret.end()..whole.end()]);
        [before, REMOVED, after].concat()
    });
    (without.into_owned(), count)
}

/// Keeps a secret to look for it elsewhere, as it stands and without what quotes it.
fn remember(secret: &[u8], known: &mut BTreeSet<Vec<u8>>) {
    let Ok(text) = str::from_utf8(secret) else {
        known.insert(secret.to_vec());
        return;
    };
    let references = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    let plain = references.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    for one in [text, &plain, &text.replace("''", "'"), &text.replace('\\', "")] {
        if one.len() >= SHORTEST && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(one)) {
            known.insert(one.as_bytes().to_vec());
        }
    }
}

/// What finds each of these; the longest first, for one may be the beginning of another.
fn any_of(known: &BTreeSet<Vec<u8>>) -> Result<Option<Regex>, regex::Error> {
    let mut secrets: Vec<_> = known.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let byte = |byte: &u8| format!("\\x{byte:02x}");
    let each: Vec<String> = secrets.iter().map(|secret| secret.iter().map(byte).collect()).collect();
    (!each.is_empty()).then(|| Regex::new(&format!("(?-u){}", each.join("|")))).transpose()
}

#[cfg(test)]
#[path = "redaction_tests.rs"]
mod tests;
