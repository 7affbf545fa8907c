//! Who an object on the host belongs to. Every link and every firewall element that we make bears its owner, so that what
//! is left of a container can be found and removed without any record of it.

use std::fmt;

/// What a link's alias starts with, before the instance.
const ALIAS_PREFIX: &str = "cringle:";

/// One attachment of a container to a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The container.
    pub container_id: String,
    /// The interface inside it.
    pub if_name: String,
    /// The network.
    pub network: String,
}

impl Owner {
    /// Reads what `Display` wrote. No part can contain the sign that ends it: ids have no slash, and networks no at sign.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (container_id, rest) = text.split_once('/')?;
        let (if_name, network) = rest.rsplit_once('@')?;
        Some(Self {
            container_id: container_id.into(),
            if_name: if_name.into(),
            network: network.into(),
        })
    }

    /// The alias of a link of that instance and this owner.
    #[must_use]
    pub fn alias(&self, instance: &str) -> String {
        format!("{ALIAS_PREFIX}{instance}:{self}")
    }

    /// The owner in a link's alias, if the link belongs to that instance.
    #[must_use]
    pub fn of_alias(alias: &str, instance: &str) -> Option<Self> {
        Self::parse(alias.strip_prefix(ALIAS_PREFIX)?.strip_prefix(instance)?.strip_prefix(':')?)
    }

    /// A number that stays the same for the same instance, owner and attempt: what names of links are made from.
    #[must_use]
    pub fn fingerprint(&self, instance: &str, attempt: u32) -> u64 {
        // FNV-1a: this must give the same number in every program and every release, unlike the standard hashers.
        let text = format!("{}#{attempt}", self.alias(instance));
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}@{}", self.container_id, self.if_name, self.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_back_from_an_alias_of_its_own_instance_only() {
        let owner =
            Owner { container_id: "c1".into(), if_name: "e@th0".into(), network: "n.1".into() };
        let alias = owner.alias("one");
        assert_eq!(alias, "cringle:one:c1/e@th0@n.1");
        assert_eq!(Owner::of_alias(&alias, "one"), Some(owner));
        for (alias, instance) in
            [(alias.as_str(), "on"), (alias.as_str(), "two"), ("", "one"), ("cringle:one:x", "one")]
        {
            assert_eq!(Owner::of_alias(alias, instance), None, "{alias} {instance}");
        }
    }
}
