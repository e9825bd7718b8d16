//! What host and guest say to each other over a virtio-serial port, which is a stream of bytes.
//!
//! A message is its length, its number, and its fields, each behind its own length; every number is of four bytes, little
//! end first. The first field is the message's word. Either side asks; the answer has the number of the question, and
//! host and guest count their questions apart.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

/// A question of the host: run this argument list. Fields: limit in milliseconds, standard input, words.
pub const RUN: &str = "run";
/// A question of the host: run this, and say every line that it prints. Fields: words.
pub const WATCH: &str = "watch";
/// A question of the host: write a file. Fields: path, permission bits in octal, `root` or `cluster`, content.
pub const PUT: &str = "put";
/// A question of the host: read a file. Field: path.
pub const GET: &str = "get";
/// A question of the host: start Corosync and Pacemaker, as at boot.
pub const CLUSTER: &str = "cluster";
/// A question of the host: start a daemon. Fields: words.
pub const DAEMON: &str = "daemon";
/// A question of the host: write everything to the disks and switch the power off. It has no answer.
pub const POWER_OFF: &str = "power-off";
/// The guest is up; no question and no answer.
pub const HELLO: &str = "hello";
/// A line of a program that is watched; answers [`WATCH`], any number of times. Field: the line.
pub const LINE: &str = "line";
/// The answer to a question, and the last one to [`WATCH`].
pub const ANSWER: &str = "answer";
/// The answer to a question that could not be carried out. Field: why.
pub const ERROR: &str = "error";
/// A question of the guest: what a fence agent asks for. Field: the order.
pub const FENCE: &str = "fence";

/// More than any file or output of a test; a longer one is noise on the line.
const LONGEST: usize = 256 << 20;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of the question that it is or answers.
    pub number: u32,
    /// What it is.
    pub word: String,
    /// What belongs to it.
    pub fields: Vec<Vec<u8>>,
}

impl Message {
    /// A message of these fields.
    pub fn new<I>(number: u32, word: &str, fields: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let fields = fields.into_iter().map(|field| field.as_ref().to_vec()).collect();
        Self { number, word: word.to_owned(), fields }
    }

    /// The field at `index`, as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self, index: usize) -> Result<String> {
        self.bytes(index).map(|field| String::from_utf8_lossy(field).into_owned())
    }

    /// The field at `index`.
    pub fn bytes(&self, index: usize) -> Result<&[u8]> {
        let word = &self.word;
        self.fields.get(index).map(Vec::as_slice).with_context(|| format!("message `{word}` lacks field {index}"))
    }

    /// The fields from `first` on, as text.
    pub fn words(&self, first: usize) -> Vec<String> {
        self.fields.iter().skip(first).map(|field| String::from_utf8_lossy(field).into_owned()).collect()
    }

    /// Writes the message.
    pub fn write(&self, to: &mut impl Write) -> Result<()> {
        let mut body = self.number.to_le_bytes().to_vec();
        for field in std::iter::once(self.word.as_bytes()).chain(self.fields.iter().map(Vec::as_slice)) {
            body.extend(u32::try_from(field.len())?.to_le_bytes());
            body.extend(field);
        }
        ensure!(body.len() <= LONGEST, "a message of {} bytes is too long", body.len());
        let mut whole = u32::try_from(body.len())?.to_le_bytes().to_vec();
        whole.append(&mut body);
        to.write_all(&whole)?;
        Ok(to.flush()?)
    }

    /// Reads a message; the end of the stream is an error.
    pub fn read(from: &mut impl Read) -> Result<Self> {
        let length = usize::try_from(number(from)?)?;
        ensure!(length <= LONGEST, "a message of {length} bytes was announced, and {LONGEST} are the most");
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let mut rest = body.as_slice();
        let number = self::number(&mut rest)?;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let length = usize::try_from(self::number(&mut rest)?)?;
            let Some((field, after)) = rest.split_at_checked(length) else {
                bail!("a field of {length} bytes was announced, and {} are left of its message", rest.len())
            };
            fields.push(field.to_vec());
            rest = after;
        }
        ensure!(!fields.is_empty(), "a message has no word");
        let word = String::from_utf8_lossy(&fields.remove(0)).into_owned();
        Ok(Self { number, word, fields })
    }
}

fn number(from: &mut impl Read) -> Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Message, RUN};

    #[test]
    fn what_is_written_is_read() {
        let sent =
            [Message::new(7, RUN, [&b"1000"[..], b"", b"\xff\n\0"]), Message::new(u32::MAX, "", Vec::<&str>::new())];
        let mut line = Vec::new();
        for message in &sent {
            message.write(&mut line).unwrap();
        }
        let mut line = line.as_slice();
        assert_eq!([Message::read(&mut line).unwrap(), Message::read(&mut line).unwrap()], sent);
        assert!(Message::read(&mut line).is_err());
    }

    #[test]
    fn noise_is_an_error() {
        let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let cases: [(&str, Vec<u8>, &str); 3] = [
            ("too long", number(LONGEST + 1).to_vec(), "announced"),
            ("no word", [number(4), number(1)].concat(), "has no word"),
            ("a field beyond the end", [number(8), number(1), number(5)].concat(), "5 bytes was announced, and 0"),
        ];
        for (name, bytes, reason) in cases {
            let error = Message::read(&mut bytes.as_slice()).expect_err(name);
            assert!(format!("{error:#}").contains(reason), "{name}: {error:#}");
        }
    }
}
