//! The checks there are.

/// What a check runs.
pub(crate) enum Kind {
    /// cargo with these arguments; passed or failed as a whole.
    Cargo(&'static [&'static str]),
    /// The tests inside the crates.
    Units,
    /// These files of cts-tests/tests.
    Tests(&'static [&'static str]),
    /// The same, in virtual machines, which need a processor for themselves.
    Guests(&'static [&'static str]),
    /// The same, which wait most of the time, for clusters above all: several such checks run at once.
    Clusters(&'static [&'static str]),
}

/// One check.
pub(crate) struct Check {
    /// What it is called.
    pub(crate) name: &'static str,
    /// A line about it.
    pub(crate) about: &'static str,
    /// What it runs.
    pub(crate) kind: Kind,
}

/// In the order in which they begin: what fails quickly comes first, and of the rest what takes longest.
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "fmt", about: "the code is formatted", kind: Kind::Cargo(&["fmt", "--all", "--check"]) },
    Check {
        name: "clippy",
        about: "no warnings, pedantic lints included",
        kind: Kind::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Check {
        name: "build",
        about: "everything there is compiles",
        kind: Kind::Cargo(&["test", "--workspace", "--no-run", "--locked"]),
    },
    Check {
        name: "deny",
        about: "licences, sources and duplicates of the crates used",
        kind: Kind::Cargo(&["deny", "check", "licenses", "bans", "sources"]),
    },
    Check { name: "unit", about: "the tests inside the crates", kind: Kind::Units },
    Check {
        name: "fuzz",
        about: "the seeds of the fuzz targets, and mutations of them",
        kind: Kind::Tests(&["fuzz_seeds"]),
    },
    Check {
        name: "vm-cluster",
        about: "everything that can happen to a pair with DRBD, and the whole chain behind it, in virtual machines",
        kind: Kind::Guests(&["drbd_cluster", "drbd_chain"]),
    },
    Check {
        name: "vm",
        about: "ocf:greenarrow:drbd with a real DRBD in virtual machines, by hand; the rig itself, and what is played on both",
        kind: Kind::Guests(&["vm_rig", "drbd_by_hand", "both_rigs"]),
    },
    Check {
        name: "hvmail-ha",
        about: "what the operator types, in real clusters with everything, while clients are served",
        kind: Kind::Clusters(&[
            "hvmail_ha_boot",
            "hvmail_ha_configure",
            "hvmail_ha_move",
            "hvmail_ha_rejoin",
            "hvmail_ha_status",
        ]),
    },
    Check {
        name: "postgresql-cluster",
        about: "ocf:greenarrow:postgresql in real clusters, while a client writes",
        kind: Kind::Clusters(&[
            "postgresql_cluster",
            "postgresql_cluster_versions",
            "postgresql_disk",
            "postgresql_divergence",
            "postgresql_lacking",
            "postgresql_scenarios",
            "postgresql_trouble",
        ]),
    },
    Check {
        name: "services-cluster",
        about: "every scenario with services, as promotable clones and as plain resources, and what can harm them",
        kind: Kind::Clusters(&["services_cluster", "services_harm"]),
    },
    Check {
        name: "primary-ips-cluster",
        about: "every scenario with primary-ips, as a promotable clone and as a plain resource",
        kind: Kind::Clusters(&["primary_ips_cluster", "primary_ips_standby"]),
    },
    Check {
        name: "namespace",
        about: "every action and state of the agents, with the kernel, /proc and real daemontools as witnesses",
        kind: Kind::Clusters(&[
            "primary_ips_announcements",
            "primary_ips_by_hand",
            "primary_ips_drift",
            "primary_ips_duplicates",
            "primary_ips_file",
            "primary_ips_network",
            "primary_ips_roles",
            "services_by_hand",
            "services_faults",
            "services_monitor",
            "services_mounts",
            "services_roles",
            "services_stop",
            "services_systemd",
        ]),
    },
    Check {
        name: "metadata",
        about: "meta-data and man page: files, schemas, and what crm, pcs and crm_resource read",
        kind: Kind::Clusters(&["metadata"]),
    },
    Check {
        name: "rig",
        about: "the test rig and its scenarios, proved with ocf:heartbeat:IPaddr2 and ocf:pacemaker:Stateful",
        kind: Kind::Clusters(&["node", "daemontools", "rig"]),
    },
    Check {
        name: "postgresql",
        about: "every action and state of ocf:greenarrow:postgresql with real servers, PostgreSQL 11 to 18",
        kind: Kind::Clusters(&[
            "postgresql_base_backup",
            "postgresql_by_hand",
            "postgresql_faults",
            "postgresql_half_record",
            "postgresql_language",
            "postgresql_places",
            "postgresql_replication",
            "postgresql_roles",
            "postgresql_stop",
            "postgresql_versions",
            "postgresql_waits",
        ]),
    },
    Check { name: "ocf-tester", about: "ocf-tester prints nothing but success", kind: Kind::Clusters(&["ocf_tester"]) },
    Check {
        name: "rpm",
        about: "the package: built, linted, installed, used and removed in a node",
        kind: Kind::Clusters(&["rpm"]),
    },
];

#[cfg(test)]
mod tests {
    use super::{CHECKS, Kind};

    #[test]
    fn every_file_of_tests_belongs_to_a_check() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_target =
                path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists();
            let target = path.file_stem().unwrap().to_str().unwrap();
            let named = |kind: &Kind| matches!(kind, Kind::Tests(files) | Kind::Guests(files) | Kind::Clusters(files) if files.contains(&target));
            assert!(!is_target || CHECKS.iter().any(|check| named(&check.kind)), "no check runs {target}");
        }
    }
}
