//! Real Pacemaker clusters on one machine, for tests, benchmarks and the demonstration.
//!
//! A test enters private namespaces ([`isolation`]), starts nodes ([`node`]) on a bridge ([`network`]), lets Corosync
//! and Pacemaker form a cluster with fencing ([`cluster`], [`fence`]), harms it ([`scenarios`]) and measures from
//! outside what a client would have seen ([`observer`]). The software of the nodes is that of the host
//! ([`packages`]); the agents are those of this workspace ([`installed`]).

#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "command lines and configuration files are built a few times a test, and read better so"
)]

pub mod address_watch;
pub mod addresses;
pub mod agent;
pub mod boot;
pub mod both_rigs;
pub mod cib;
pub mod cluster;
pub mod command;
pub mod contender;
pub mod crm_mon;
pub mod daemontools;
pub mod disk;
pub mod fence;
pub mod greenarrow;
pub mod greenarrow_pair;
pub mod installed;
pub mod isolation;
mod machine_lock;
pub mod network;
pub mod node;
pub mod observer;
pub mod other_host;
pub mod pacemaker;
pub mod packages;
pub mod port_watch;
pub mod postgres;
pub mod postgres_pair;
pub mod postgres_scenarios;
pub mod process;
pub mod scenarios;
pub mod services;
pub mod sql_writer;
pub mod subject;
pub mod supervision;
pub mod systemd;
pub mod vm;
pub mod wait;
pub mod xml;
