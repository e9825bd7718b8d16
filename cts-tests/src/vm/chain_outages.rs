//! What clients of a chain have seen of one event.

use std::time::Duration;

/// What clients have seen of one event.
#[derive(Clone, Copy, Debug)]
pub struct Outages {
    /// The longest time without an acknowledged row.
    pub database: Duration,
    /// The longest time without an answer of the address that was away longest.
    pub addresses: Duration,
    /// The longest time without a record synced to the file system on DRBD.
    pub file_system: Duration,
    /// The longest time without a greeting of the SMTP server, where there are services.
    pub mail: Option<Duration>,
}

impl Outages {
    /// In seconds.
    pub fn describe(&self) -> String {
        let [database, addresses, file_system] =
            [self.database, self.addresses, self.file_system].map(|outage| outage.as_secs_f64());
        let mail = self.mail.map_or_else(String::new, |outage| format!(", SMTP server {:.1} s", outage.as_secs_f64()));
        format!(
            "database {database:.1} s, addresses {addresses:.1} s, file system on DRBD {file_system:.1} s{mail} without an answer"
        )
    }
}
