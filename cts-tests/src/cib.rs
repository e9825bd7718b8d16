//! A cluster's configuration as Pacemaker's XML (the CIB), from typed parts.

use std::io;

use anyhow::Result;
use quick_xml::Writer;

type Xml = Writer<Vec<u8>>;

/// The newest schema that Pacemaker 2.1.5 and 3.0 both have; 3.0 dropped everything before 3.
const SCHEMA: &str = "pacemaker-3.9";

/// A CIB whose feature set is newer than the installed one is refused; this one is older than all that matter.
const FEATURE_SET: &str = "3.3.0";

/// A role of a promotable clone's instance, in the names of OCF 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Active.
    Promoted,
    /// Standby.
    Unpromoted,
}

impl Role {
    /// As Pacemaker's XML spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Promoted => "Promoted",
            Self::Unpromoted => "Unpromoted",
        }
    }
}

/// An action with its interval and timeout.
#[derive(Clone, Debug)]
struct Operation {
    name: String,
    interval: String,
    timeout: String,
    role: Option<Role>,
}

/// A resource run by one agent.
#[derive(Clone, Debug)]
pub struct Primitive {
    id: String,
    standard: String,
    provider: Option<String>,
    kind: String,
    parameters: Vec<(String, String)>,
    meta: Vec<(String, String)>,
    operations: Vec<Operation>,
}

impl Primitive {
    /// An OCF resource, such as `ocf("ip", "heartbeat", "IPaddr2")`.
    pub fn ocf(id: &str, provider: &str, kind: &str) -> Self {
        Self::new(id, "ocf", Some(provider), kind)
    }

    /// The fence device that cuts the power of `node`.
    pub fn fence(node: &str) -> Self {
        Self::new(&format!("fence-{node}"), "stonith", None, "fence_rig")
            .parameter("pcmk_host_list", node)
            .operation("monitor", "60s", "20s", None)
    }

    fn new(id: &str, standard: &str, provider: Option<&str>, kind: &str) -> Self {
        Self {
            id: id.to_owned(),
            standard: standard.to_owned(),
            provider: provider.map(str::to_owned),
            kind: kind.to_owned(),
            parameters: Vec::new(),
            meta: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// The resource's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets an agent parameter.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a meta attribute.
    #[must_use]
    pub fn meta(mut self, name: &str, value: &str) -> Self {
        self.meta.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an action; intervals and timeouts with their unit ("10s"), interval "0s" for one that does not repeat.
    #[must_use]
    pub fn operation(mut self, name: &str, interval: &str, timeout: &str, role: Option<Role>) -> Self {
        self.operations.push(Operation {
            name: name.to_owned(),
            interval: interval.to_owned(),
            timeout: timeout.to_owned(),
            role,
        });
        self
    }

    fn write(&self, xml: &mut Xml) -> io::Result<()> {
        let mut element = xml.create_element("primitive").with_attributes([
            ("id", self.id.as_str()),
            ("class", self.standard.as_str()),
            ("type", self.kind.as_str()),
        ]);
        if let Some(provider) = &self.provider {
            element = element.with_attribute(("provider", provider.as_str()));
        }
        element.write_inner_content(|xml| {
            pairs(xml, "meta_attributes", &format!("{}-meta", self.id), &self.meta)?;
            pairs(xml, "instance_attributes", &format!("{}-parameters", self.id), &self.parameters)?;
            xml.create_element("operations").write_inner_content(|xml| {
                self.operations.iter().try_for_each(|operation| self.write_operation(xml, operation))
            })?;
            Ok(())
        })?;
        Ok(())
    }

    fn write_operation(&self, xml: &mut Xml, operation: &Operation) -> io::Result<()> {
        let id = format!("{}-{}-{}", self.id, operation.name, operation.interval);
        let mut element = xml.create_element("op").with_attributes([
            ("id", id.as_str()),
            ("name", &operation.name),
            ("interval", &operation.interval),
            ("timeout", &operation.timeout),
        ]);
        if let Some(role) = operation.role {
            element = element.with_attribute(("role", role.word()));
        }
        element.write_empty().map(drop)
    }
}

/// What can stand under `resources`.
#[derive(Clone, Debug)]
pub enum Resource {
    /// On one node at a time.
    Plain(Primitive),
    /// Everywhere, and promoted on one node; called `ID-clone`.
    Promotable(Primitive),
    /// Its members together, in order.
    Group(String, Vec<Primitive>),
}

impl Resource {
    /// The id by which the whole is moved and asked about.
    pub fn id(&self) -> String {
        match self {
            Self::Plain(primitive) => primitive.id.clone(),
            Self::Promotable(primitive) => format!("{}-clone", primitive.id),
            Self::Group(id, _) => id.clone(),
        }
    }

    /// The id of its primitive, by which instances are asked about; a group's own id.
    pub fn primitive(&self) -> &str {
        match self {
            Self::Plain(primitive) | Self::Promotable(primitive) => &primitive.id,
            Self::Group(id, _) => id,
        }
    }

    /// Whether it has roles.
    pub fn is_promotable(&self) -> bool {
        matches!(self, Self::Promotable(_))
    }

    fn write(&self, xml: &mut Xml) -> io::Result<()> {
        let id = self.id();
        match self {
            Self::Plain(primitive) => primitive.write(xml),
            Self::Promotable(primitive) => {
                let meta = [("promotable", "true"), ("notify", "true"), ("interleave", "true")];
                let meta: Vec<_> = meta.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let clone = xml.create_element("clone").with_attribute(("id", id.as_str()));
                clone.write_inner_content(|xml| {
                    pairs(xml, "meta_attributes", &format!("{id}-meta"), &meta)?;
                    primitive.write(xml)
                })?;
                Ok(())
            }
            Self::Group(_, members) => {
                let group = xml.create_element("group").with_attribute(("id", id.as_str()));
                group.write_inner_content(|xml| members.iter().try_for_each(|member| member.write(xml)))?;
                Ok(())
            }
        }
    }
}

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Cib {
    properties: Vec<(String, String)>,
    resources: Vec<Resource>,
    constraints: Vec<String>,
}

impl Cib {
    /// Fencing on, a short wait for a controller, and a fence device for each node.
    pub fn fenced(nodes: &[String]) -> Self {
        // The default of 20 s is how long a starting cluster waits for others to speak up.
        Self {
            resources: nodes.iter().map(|node| Resource::Plain(Primitive::fence(node))).collect(),
            ..Self::default()
        }
        .property("dc-deadtime", "1s")
        .property("stonith-enabled", "true")
    }

    /// Sets a cluster property.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a resource.
    #[must_use]
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self
    }

    /// `resource` goes where `with` is and after it has become so. Of a promotable clone it is the promoted instance that
    /// is meant, on either side.
    #[must_use]
    pub fn follows(mut self, resource: &Resource, with: &Resource) -> Self {
        let role = |one: &Resource, name: &str| {
            if one.is_promotable() { format!(" {name}=\"Promoted\"") } else { String::new() }
        };
        let action = |one: &Resource| if one.is_promotable() { "promote" } else { "start" };
        let roles = role(resource, "rsc-role") + &role(with, "with-rsc-role");
        let (first, then) = (action(with), action(resource));
        let (resource, with) = (resource.id(), with.id());
        self.constraints.push(format!(
            "<rsc_colocation id=\"{resource}-with-{with}\" rsc=\"{resource}\" with-rsc=\"{with}\"{roles} score=\"INFINITY\"/>"
        ));
        self.constraints.push(format!(
            "<rsc_order id=\"{resource}-after-{with}\" first=\"{with}\" first-action=\"{first}\" then=\"{resource}\" \
             then-action=\"{then}\"/>"
        ));
        self
    }

    /// Like [`Self::follows`], but `resource` stays until the promoted instance of `with` has been demoted, for those that
    /// reach it through the former until then.
    #[must_use]
    pub fn follows_until_demoted(mut self, resource: &Resource, with: &Resource) -> Self {
        let (resource, with) = (resource.id(), with.id());
        self.constraints.push(format!(
            "<rsc_colocation id=\"{resource}-with-{with}\" rsc=\"{resource}\" with-rsc=\"{with}\" \
             with-rsc-role=\"Promoted\" score=\"INFINITY\"/>"
        ));
        for (id, first, then) in [("after", "promote", "start"), ("until", "demote", "stop")] {
            self.constraints.push(format!(
                "<rsc_order id=\"{resource}-{id}-{with}\" first=\"{with}\" first-action=\"{first}\" then=\"{resource}\" \
                 then-action=\"{then}\" symmetrical=\"false\"/>"
            ));
        }
        self
    }

    /// The document, as it is laid down before a cluster's first start.
    pub fn to_xml(&self) -> Result<String> {
        let mut xml = Writer::new(Vec::new());
        let counters = [("admin_epoch", "0"), ("epoch", "1"), ("num_updates", "0")];
        xml.create_element("cib")
            .with_attributes([("crm_feature_set", FEATURE_SET), ("validate-with", SCHEMA)])
            .with_attributes(counters)
            .write_inner_content(|xml| {
                xml.create_element("configuration").write_inner_content(|xml| self.write_configuration(xml))?;
                xml.create_element("status").write_empty().map(drop)
            })?;
        Ok(String::from_utf8(xml.into_inner())?)
    }

    /// Only the `configuration` element, for loading into a running cluster.
    pub fn configuration(&self) -> Result<String> {
        let mut xml = Writer::new(Vec::new());
        xml.create_element("configuration").write_inner_content(|xml| self.write_configuration(xml))?;
        Ok(String::from_utf8(xml.into_inner())?)
    }

    fn write_configuration(&self, xml: &mut Xml) -> io::Result<()> {
        xml.create_element("crm_config")
            .write_inner_content(|xml| pairs(xml, "cluster_property_set", "cib-bootstrap-options", &self.properties))?;
        xml.create_element("nodes").write_empty()?;
        xml.create_element("resources")
            .write_inner_content(|xml| self.resources.iter().try_for_each(|resource| resource.write(xml)))?;
        xml.create_element("constraints").write_inner_content(|xml| {
            xml.get_mut().extend_from_slice(self.constraints.concat().as_bytes());
            Ok(())
        })?;
        Ok(())
    }
}

/// A set of name-value pairs; an empty set is left out.
fn pairs(xml: &mut Xml, tag: &str, id: &str, values: &[(String, String)]) -> io::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let set = xml.create_element(tag).with_attribute(("id", id));
    set.write_inner_content(|xml| {
        for (name, value) in values {
            let pair = format!("{id}-{name}");
            let attributes = [("id", pair.as_str()), ("name", name), ("value", value)];
            xml.create_element("nvpair").with_attributes(attributes).write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cib, Primitive, Resource, Role};
    use crate::xml::Element;

    #[test]
    fn a_promotable_clone_with_a_follower() {
        let stateful =
            Primitive::ocf("s", "pacemaker", "Stateful").operation("monitor", "5s", "10s", Some(Role::Promoted));
        let clone = Resource::Promotable(stateful);
        let address = Resource::Plain(Primitive::ocf("ip", "heartbeat", "IPaddr2").parameter("ip", "a\"<&"));
        let cib = Cib::fenced(&["n1".into(), "n2".into()])
            .resource(clone.clone())
            .resource(address.clone())
            .follows(&address, &clone);
        let root = Element::parse(&cib.to_xml().unwrap()).unwrap();
        assert_eq!(root.all("primitive").len(), 4);
        assert_eq!(root.first("clone").unwrap().get("id"), "s-clone");
        assert_eq!(root.first("rsc_colocation").unwrap().get("with-rsc-role"), "Promoted");
        assert_eq!(root.first("rsc_colocation").unwrap().get("rsc-role"), "");
        assert!(root.all("nvpair").iter().any(|pair| pair.get("value") == "a\"<&"));
    }

    #[test]
    fn a_promotable_clone_that_follows_another() {
        let [addresses, services] =
            ["ips", "services"].map(|id| Resource::Promotable(Primitive::ocf(id, "greenarrow", id)));
        let root = Element::parse(&Cib::default().follows(&services, &addresses).to_xml().unwrap()).unwrap();
        let constraint = |tag: &str, names: &[&str]| {
            let element = root.first(tag).unwrap();
            names.iter().map(|name| element.get(name).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            constraint("rsc_colocation", &["rsc", "rsc-role", "with-rsc", "with-rsc-role", "score"]),
            ["services-clone", "Promoted", "ips-clone", "Promoted", "INFINITY"]
        );
        assert_eq!(
            constraint("rsc_order", &["first", "first-action", "then", "then-action"]),
            ["ips-clone", "promote", "services-clone", "promote"]
        );
    }
}
