//! The host's end of a guest's virtio-serial port.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::message::{self, Message};

/// What a guest's fence agent asks for, and the way back for the answer.
#[derive(Debug)]
pub struct Order {
    /// The name of the guest that asks.
    pub by: String,
    /// ACTION TARGET, as the agent of the rig sends it.
    pub text: String,
    number: u32,
    channel: Arc<Channel>,
}

impl Order {
    /// Answers with the agent's exit status, and what else it is to print.
    pub fn answer(&self, text: &str) -> Result<()> {
        self.channel.send(&Message::new(self.number, message::ANSWER, [text]))
    }
}

/// Questions to one guest, from one start of it to its end.
pub struct Channel {
    guest: String,
    stream: UnixStream,
    writing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asked: BTreeMap<u32, Sender<Message>>,
    questions: u32,
    up: bool,
    hung_up: bool,
}

impl Channel {
    /// Connects to the port of `guest` at `socket`. Orders of its fence agents go to `orders`.
    pub fn open(guest: &str, socket: &Path, orders: Sender<Order>) -> Result<Arc<Self>> {
        let stream = UnixStream::connect(socket).with_context(|| format!("no port at {}", socket.display()))?;
        let reading = stream.try_clone()?;
        let (writing, state) = (Mutex::default(), Mutex::default());
        let this = Arc::new(Self { guest: guest.to_owned(), stream, writing, state });
        let reader = Arc::clone(&this);
        thread::Builder::new().name(format!("channel {guest}")).spawn(move || reader.listen(reading, &orders))?;
        Ok(this)
    }

    /// Whether the guest has started and obeys; an error once it has ended.
    pub fn is_up(&self) -> Result<bool> {
        let state = self.state();
        ensure!(!state.hung_up, "{} has no power any more", self.guest);
        Ok(state.up)
    }

    /// Sends a question and returns the line on which the answers come.
    pub fn ask<I>(&self, word: &str, fields: I) -> Result<Receiver<Message>>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let (sender, answers) = channel();
        let number = {
            let mut state = self.state();
            ensure!(!state.hung_up, "{} has no power any more", self.guest);
            state.questions += 1;
            let number = state.questions;
            state.asked.insert(number, sender);
            number
        };
        self.send(&Message::new(number, word, fields))?;
        Ok(answers)
    }

    /// Sends a question and waits for its one answer.
    pub fn answer<I>(&self, word: &str, fields: I, limit: Duration) -> Result<Message>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let answers = self.ask(word, fields)?;
        match answers.recv_timeout(limit) {
            Ok(answer) if answer.word == message::ERROR => bail!("on {}: {}", self.guest, answer.text(0)?),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} did not answer to `{word}` within {:.1} s", self.guest, limit.as_secs_f64())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{} lost its power while it was asked to `{word}`", self.guest)
            }
        }
    }

    /// Hangs up: whoever waits for an answer gets an error.
    pub fn hang_up(&self) {
        // It may be closed already, from the other side.
        let _closed = self.stream.shutdown(Shutdown::Both);
        let mut state = self.state();
        state.hung_up = true;
        state.asked.clear();
    }

    fn send(&self, message: &Message) -> Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        message.write(&mut &self.stream).with_context(|| format!("{} cannot be asked", self.guest))
    }

    fn listen(self: &Arc<Self>, mut from: UnixStream, orders: &Sender<Order>) {
        while let Ok(message) = Message::read(&mut from) {
            match message.word.as_str() {
                message::HELLO => self.state().up = true,
                // Nobody may be waiting any more: that is theirs to know.
                message::FENCE => {
                    let (by, text) = (self.guest.clone(), message.text(0).unwrap_or_default());
                    drop(orders.send(Order { by, text, number: message.number, channel: Arc::clone(self) }));
                }
                message::LINE => {
                    let sender = self.state().asked.get(&message.number).cloned();
                    sender.map(|sender| sender.send(message));
                }
                _ => {
                    let sender = self.state().asked.remove(&message.number);
                    sender.map(|sender| sender.send(message));
                }
            }
        }
        self.hang_up();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Channel").field("guest", &self.guest).finish_non_exhaustive()
    }
}
