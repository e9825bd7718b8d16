//! What may never answer is asked in a thread, and given up after a while.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

/// A file system whose device is frozen (DRBD without quorum, a dead NFS server) lets nobody read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// The answer, or that there is none. The thread that hangs in the kernel then ends with this program.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    ask: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    // A receiver that has given up takes no answer.
    thread::spawn(move || drop(sender.send(ask())));
    receiver.recv_timeout(limit).unwrap_or_else(|_| Err(anyhow!("no answer within {} s", limit.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_given_up() {
        let hung = within(Duration::from_millis(50), || {
            thread::sleep(Duration::from_secs(5));
            Ok(())
        });
        assert_eq!(hung.unwrap_err().to_string(), "no answer within 0 s");
        assert_eq!(within(PATIENCE, || Ok(7)).unwrap(), 7);
    }
}
