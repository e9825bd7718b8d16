//! OCF 1.1 resource agents: everything that is about OCF and nothing that is about one resource.
//!
//! An agent is a type that implements [`Agent`]; its `main` is `ocf::main::<ThatType>()`. This crate turns the command
//! line and Pacemaker's environment into a [`Run`] with a deadline, checks the parameters against the agent's table,
//! takes the instance's lock, and turns what the agent found into an exit status, one exit reason and a log entry.

mod action;
mod agent;
mod cluster;
mod command_line;
mod deadline;
mod environment;
mod lapse;
mod log;
mod manual;
mod metadata;
mod notify;
mod outcome;
mod parameter;
mod process;
mod state;

pub use action::{Action, Advertised};
pub use agent::{Agent, Run, main};
pub use cluster::Cluster;
pub use deadline::Deadline;
pub use environment::Environment;
pub use lapse::{LAST_RESORT, Lapse, NEVER};
pub use log::Log;
pub use metadata::About;
pub use notify::{Instance, Notification, Operation, When};
pub use outcome::{Done, Failure, Finding, Found, Kind, State};
pub use parameter::{Content, Parameter, Values, parse_time};
pub use process::{Output, Program};
pub use state::{Holder, Lock, Store, uptime};
