//! What Pacemaker says to an agent through the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The environment of one action, read once. Values that are not UTF-8 are taken with replacement characters: the
/// checks of the parameter that holds them then say what is wrong.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

const PARAMETER: &str = "OCF_RESKEY_";
const META: &str = "OCF_RESKEY_CRM_meta_";

impl Environment {
    /// This process's own.
    pub(crate) fn of_this_process() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    /// From any variables.
    pub fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |os: OsString| os.to_string_lossy().into_owned();
        Self { variables: variables.into_iter().map(|(name, value)| (text(name), text(value))).collect() }
    }

    /// Sets a parameter as if Pacemaker had: what `-o name=value` does.
    pub(crate) fn set_parameter(&mut self, name: &str, value: &str) {
        self.variables.insert(format!("{PARAMETER}{name}"), value.to_owned());
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A meta attribute of the resource or operation (`CRM_meta_NAME`).
    pub(crate) fn meta(&self, name: &str) -> Option<&str> {
        self.variable(&format!("{META}{name}"))
    }

    /// The resource's parameters, without Pacemaker's own.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let own = |name: &str| name.starts_with("CRM_meta_") || name == "crm_feature_set";
        self.variables
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PARAMETER)?.to_owned(), value.clone())))
            .filter(|(name, _)| !own(name))
            .collect()
    }

    /// The instance's name, `default` when nobody gave one, as resource-agents does.
    pub fn instance(&self) -> &str {
        self.variable("OCF_RESOURCE_INSTANCE").unwrap_or("default")
    }

    /// The resource's name: the instance's without the number that a globally unique clone adds.
    pub fn resource(&self) -> &str {
        let instance = self.instance();
        match instance.rsplit_once(':') {
            Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() => name,
            _ => instance,
        }
    }

    /// Whether Pacemaker called. ocf-tester and people set no feature set.
    pub fn by_pacemaker(&self) -> bool {
        self.variable("OCF_RESKEY_crm_feature_set").is_some()
    }

    /// Whether the instance belongs to a promotable clone. Pacemaker sends the number of promoted instances for these
    /// only; ocf-tester and a person by hand send neither it nor a feature set, and then mean a promotable clone.
    pub fn promotable(&self) -> bool {
        self.meta("promoted_max").or_else(|| self.meta("master_max")).is_some() || !self.by_pacemaker()
    }

    /// How many instances may be promoted at a time, in a promotable clone that Pacemaker runs.
    pub fn promoted_max(&self) -> Option<u32> {
        let most = self.meta("promoted_max").or_else(|| self.meta("master_max"))?;
        most.trim().parse().ok()
    }

    /// Whether Pacemaker notifies this instance of what it does to the others (the clone's meta attribute notify).
    pub fn notified(&self) -> bool {
        self.meta("notify").and_then(crate::parameter::parse_boolean).unwrap_or(false)
    }

    /// Whether this monitor is the one for a promoted instance (the operation's attribute role; "Master" is its name before
    /// Pacemaker 2.1).
    pub fn for_promoted(&self) -> bool {
        self.meta("role").is_some_and(|role| ["Promoted", "Master"].iter().any(|name| role.eq_ignore_ascii_case(name)))
    }

    /// This node's name in the cluster, when Pacemaker told it.
    pub fn node(&self) -> Option<&str> {
        self.meta("on_node")
    }

    /// The operation's timeout (OCF 1.1 "CRM_meta_timeout", milliseconds), if it was told and makes sense.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.meta("timeout")?.trim().parse().ok().filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// Whether this monitor is a probe: one with no interval.
    pub fn probe(&self) -> bool {
        self.meta("interval").is_none_or(|interval| interval.trim().parse() == Ok(0_u64))
    }

    /// The check level. OCF 1.1: an unsupported level falls to the next lower supported one, which is the agent's doing;
    /// what cannot be read counts as `default`.
    pub(crate) fn check_level(&self, default: u32) -> u32 {
        self.variable("OCF_CHECK_LEVEL").and_then(|level| level.trim().parse().ok()).unwrap_or(default)
    }

    /// Where state lives that a reboot must take away (OCF's HA_RSCTMP).
    pub(crate) fn state_directory(&self) -> PathBuf {
        self.variable("HA_RSCTMP").unwrap_or("/run/resource-agents").into()
    }

    /// What marks the exit reason on stderr.
    pub(crate) fn exit_reason_prefix(&self) -> &str {
        self.variable("OCF_EXIT_REASON_PREFIX").unwrap_or("ocf-exit-reason:")
    }

    /// The variables whose names begin with `prefix`, for a child that needs them.
    pub(crate) fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(move |(name, _)| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn by_hand_and_in_ocf_tester_the_agent_is_one_of_a_promotable_clone() {
        assert!(environment(&[]).promotable());
        assert!(environment(&[("OCF_RESKEY_CRM_meta_timeout", "20000")]).promotable());
    }

    #[test]
    fn under_pacemaker_the_number_of_promoted_instances_tells() {
        let feature_set = ("OCF_RESKEY_crm_feature_set", "3.16.1");
        assert!(!environment(&[feature_set]).promotable());
        assert!(environment(&[feature_set, ("OCF_RESKEY_CRM_meta_promoted_max", "1")]).promotable());
        assert!(environment(&[feature_set, ("OCF_RESKEY_CRM_meta_master_max", "1")]).promotable());
    }

    #[test]
    fn a_monitor_without_an_interval_is_a_probe() {
        assert!(environment(&[]).probe());
        let monitor = |role| environment(&[("OCF_RESKEY_CRM_meta_role", role)]);
        assert!(monitor("Promoted").for_promoted() && monitor("Master").for_promoted());
        assert!(!monitor("Unpromoted").for_promoted() && !environment(&[]).for_promoted());
        assert!(environment(&[("OCF_RESKEY_CRM_meta_interval", "0")]).probe());
        assert!(!environment(&[("OCF_RESKEY_CRM_meta_interval", "10000")]).probe());
    }

    #[test]
    fn pacemakers_own_settings_are_no_parameters() {
        let all = environment(&[
            ("OCF_RESKEY_ip_file", "/x"),
            ("OCF_RESKEY_CRM_meta_timeout", "1000"),
            ("OCF_RESKEY_crm_feature_set", "3"),
        ]);
        assert_eq!(all.parameters().into_iter().collect::<Vec<_>>(), [("ip_file".to_owned(), "/x".to_owned())]);
    }

    #[test]
    fn a_resource_is_its_instance_without_the_clone_number() {
        assert_eq!(environment(&[("OCF_RESOURCE_INSTANCE", "ips:1")]).resource(), "ips");
        assert_eq!(environment(&[("OCF_RESOURCE_INSTANCE", "ips:x")]).resource(), "ips:x");
        assert_eq!(environment(&[("OCF_RESOURCE_INSTANCE", "ips:")]).resource(), "ips:");
        assert_eq!(environment(&[]).instance(), "default");
    }

    #[test]
    fn nonsense_in_numbers_is_as_good_as_nothing() {
        for nonsense in ["", "x", "-1", "0", "1.5", "99999999999999999999999"] {
            assert_eq!(environment(&[("OCF_RESKEY_CRM_meta_timeout", nonsense)]).timeout(), None, "{nonsense}");
        }
        assert_eq!(environment(&[("OCF_CHECK_LEVEL", "ten")]).check_level(10), 10);
        assert_eq!(environment(&[("OCF_CHECK_LEVEL", "0")]).check_level(10), 0);
    }
}
