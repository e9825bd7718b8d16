//! The power switch of the guests: what their fence agent asks for, it does, and it keeps a log with times.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::channel::Order;
use super::guest::Guest;
use crate::fence::Fencing;

/// How the switch behaves.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// How long an order takes to be carried out.
    slowness: Duration,
    /// When a guest that was told to reboot is switched on again; with `None` it stays off.
    restart_after: Option<Duration>,
    /// Whether a guest that is switched on again starts its cluster.
    cluster: bool,
}

/// The switch. An order over a cut cable is refused, as a switch on the same network would never receive it. A partition
/// is another thing: there both sides reach the switch.
#[derive(Debug)]
pub struct PowerSwitch {
    guests: Vec<Arc<Guest>>,
    manner: Mutex<Manner>,
    log: Mutex<Vec<Fencing>>,
    trouble: Mutex<Vec<String>>,
}

impl PowerSwitch {
    /// Serves the orders of these guests.
    pub fn start(guests: &[Arc<Guest>], orders: Receiver<Order>) -> Result<Arc<Self>> {
        let manner =
            Manner { slowness: Duration::ZERO, restart_after: Some(Duration::from_millis(500)), cluster: false };
        let (manner, log, trouble) = (Mutex::new(manner), Mutex::default(), Mutex::default());
        let switch = Arc::new(Self { guests: guests.to_vec(), manner, log, trouble });
        let serving = Arc::clone(&switch);
        thread::Builder::new().name("power switch".into()).spawn(move || {
            for order in orders {
                let switch = Arc::clone(&serving);
                // One that is slow holds nobody up.
                thread::spawn(move || {
                    if let Err(error) = switch.serve(&order) {
                        keep(&switch.trouble, format!("{} asked for `{}`: {error:#}", order.by, order.text));
                    }
                });
            }
        })?;
        Ok(switch)
    }

    /// How long an order takes from now on until it is carried out.
    pub fn slowness(&self, slowness: Duration) {
        self.manner().slowness = slowness;
    }

    /// When a guest that was told to reboot is switched on again from now on; with `None` it stays off.
    pub fn restart_after(&self, delay: Option<Duration>) {
        self.manner().restart_after = delay;
    }

    /// From now on a guest that is switched on again starts its cluster.
    pub fn start_clusters(&self) {
        self.manner().cluster = true;
    }

    /// The orders that cut a guest's power since `since`.
    pub fn since(&self, since: Instant) -> Vec<Fencing> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|fencing| fencing.asked >= since).cloned().collect()
    }

    /// Orders that could not be carried out, and guests that did not start again.
    pub fn trouble(&self) -> Vec<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(self: &Arc<Self>, order: &Order) -> Result<()> {
        let by = self.guest(&order.by)?;
        let answer = match order.text.split_whitespace().collect::<Vec<_>>().as_slice() {
            _ if !by.is_connected() => "1".to_owned(),
            ["monitor", _] => "0".to_owned(),
            ["list", _] => {
                let names: Vec<_> = self.guests.iter().map(|guest| guest.name.as_str()).collect();
                format!("0 {}", names.join(" "))
            }
            // Fence agents answer 2 for "off" (FenceAgentAPI.md).
            ["status", target] => if self.guest(target)?.is_on() { "0" } else { "2" }.to_owned(),
            ["on", target] => {
                self.boot(self.guest(target)?)?;
                "0".to_owned()
            }
            [action @ ("off" | "reboot"), target] => {
                self.cut(target, &order.by, *action == "reboot")?;
                "0".to_owned()
            }
            other => bail!("no order looks like {other:?}"),
        };
        // Two guests may have shot each other at the same time; the dead one gets no answer.
        if by.is_on() { order.answer(&answer) } else { Ok(()) }
    }

    fn cut(self: &Arc<Self>, target: &str, by: &str, restart: bool) -> Result<()> {
        let (asked, manner) = (Instant::now(), *self.manner());
        thread::sleep(manner.slowness);
        let guest = Arc::clone(self.guest(target)?);
        guest.power_cut()?;
        keep(&self.log, Fencing { asked, done: Instant::now(), by: by.to_owned(), target: target.to_owned() });
        if let Some(delay) = manner.restart_after.filter(|_| restart) {
            let switch = Arc::clone(self);
            thread::spawn(move || {
                thread::sleep(delay);
                // Meanwhile it may have been told otherwise, or its rack be gone.
                if switch.manner().restart_after.is_none() {
                    return;
                }
                if let Err(error) = switch.boot(&guest) {
                    keep(&switch.trouble, format!("{} does not start again: {error:#}", guest.name));
                }
            });
        }
        Ok(())
    }

    fn boot(&self, guest: &Guest) -> Result<()> {
        guest.power_on()?;
        guest.wait_up()?;
        if self.manner().cluster { guest.start_cluster() } else { Ok(()) }
    }

    fn guest(&self, name: &str) -> Result<&Arc<Guest>> {
        self.guests.iter().find(|guest| guest.name == name).with_context(|| format!("no guest is called {name}"))
    }

    fn manner(&self) -> MutexGuard<'_, Manner> {
        self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(item);
}
