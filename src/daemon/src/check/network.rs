//! The pods' network: its configuration, its plugins, and the kernel's part of what the built-in ones make.

use super::finding::{Area, Finding};
use super::kernel::apart;
use super::programs::versions;
use cringle_cni::link::{Links, Macvlan, Veth};
use cringle_cni::nft::Nft;
use cringle_kernel::namespace::{self, Namespaces};
use cringle_network::survey::{Surveyed, survey};
use cringle_network::{NetworkNotReady, NetworkSettings};
use std::error::Error;
use std::os::fd::AsFd;
use std::path::Path;

/// Something of the kernel's that built-in plugins need.
#[derive(Debug, Clone, Copy)]
struct Device {
    name: &'static str,
    /// The plugins that can't do without.
    plugins: &'static [&'static str],
    /// What is to be loaded.
    module: &'static str,
    make: fn() -> Result<(), Box<dyn Error>>,
}

const DEVICES: [Device; 4] = [
    Device { name: "bridge", plugins: &["bridge"], module: "bridge", make: make_bridge },
    Device { name: "veth", plugins: &["bridge"], module: "veth", make: make_veth },
    Device { name: "macvlan", plugins: &["macvlan"], module: "macvlan", make: make_macvlan },
    Device {
        name: "nftables",
        plugins: &["bridge", "portmap"],
        module: "nf_tables",
        make: make_nft,
    },
];

pub(super) async fn check(settings: &NetworkSettings) -> Vec<Finding> {
    let survey = survey(settings);
    let mut findings = Vec::new();
    findings.push(match &survey.network {
        Ok(name) => Finding::fine(Area::Network, "configuration", format!("network \"{name}\"")),
        Err(reason) => unconfigured(reason, settings),
    });
    for problem in survey.passed_over.iter().filter(|_| survey.network.is_ok()) {
        let hint = "mend the file, or remove it";
        findings.push(Finding::warning(Area::Network, "passed over", problem, hint));
    }
    for found in &survey.plugins {
        findings.push(plugin(found).await);
    }
    let built_in: Vec<&str> = survey
        .plugins
        .iter()
        .filter(|one| matches!(one.program, Ok(None)))
        .map(|one| one.kind.as_str())
        .collect();
    findings.extend(DEVICES.iter().map(|one| device(one, &built_in)));
    findings
}

fn unconfigured(reason: &NetworkNotReady, settings: &NetworkSettings) -> Finding {
    let place = settings.config_directory.display();
    let hint = match &settings.conf_template {
        Some(template) => {
            format!(
                "it will be made from \"{}\" when the kubelet tells the ranges",
                template.display()
            )
        }
        None => format!(
            "put a CNI configuration into \"{place}\"; until then only pods with the host's network run"
        ),
    };
    Finding::warning(Area::Network, "configuration", reason, hint)
}

async fn plugin(found: &Surveyed) -> Finding {
    let subject = format!("plugin {}", found.kind);
    match &found.program {
        Ok(None) => Finding::fine(Area::Network, subject, "built in"),
        Ok(Some(program)) => executed(subject, found, program).await,
        Err(error) => {
            let hint = "install it there, or name its directory in `network.plugin_directories`";
            Finding::failure(Area::Network, subject, error, hint)
        }
    }
}

async fn executed(subject: String, found: &Surveyed, program: &Path) -> Finding {
    let shown = format!("\"{}\"", program.display());
    match versions(program, &found.kind).await {
        Ok(versions) if versions.contains(&found.version) => {
            Finding::fine(Area::Network, subject, format!("{shown}, CNI {}", found.version))
        }
        Ok(versions) => {
            let detail = format!("{shown} speaks CNI {}", versions.join(", "));
            let hint = format!("the configuration has version {}: change it", found.version);
            Finding::failure(Area::Network, subject, detail, hint)
        }
        Err(error) => {
            let hint = "it is to answer CNI_COMMAND=VERSION: install one for this machine";
            Finding::failure(Area::Network, subject, format!("{shown}: {error}"), hint)
        }
    }
}

/// Makes the device in a network namespace that ends right then.
fn device(device: &Device, built_in: &[&str]) -> Finding {
    let make = device.make;
    let made = apart(move || {
        let made = namespace::unshare(Namespaces::NETWORK).map_err(Into::into);
        made.and_then(|()| make()).map_err(|error| cringle_service::error::chain(&*error))
    });
    let Err(error) = made else {
        return Finding::fine(Area::Kernel, device.name, "can be made");
    };
    let users: Vec<&str> =
        device.plugins.iter().copied().filter(|plugin| built_in.contains(plugin)).collect();
    let load = format!("load the module \"{}\"", device.module);
    if users.is_empty() {
        let hint = format!("{load}, if the plugin {} is to be used", device.plugins.join(" or "));
        return Finding::warning(Area::Kernel, device.name, error, hint);
    }
    let hint = format!("{load}: the configured plugin {} needs it", users.join(" and "));
    Finding::failure(Area::Kernel, device.name, error, hint)
}

/// The names are those of a namespace of its own.
const BRIDGE: &str = "bridge0";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn make_bridge() -> Result<(), Box<dyn Error>> {
    Ok(Links::open()?.create_bridge(BRIDGE, MAC, None)?)
}

fn make_veth() -> Result<(), Box<dyn Error>> {
    make_bridge()?;
    let own = namespace::own(Namespaces::NETWORK)?;
    let mut links = Links::open()?;
    let master = links.require(BRIDGE)?.index;
    Ok(links.create_veth(&Veth {
        name: "veth0",
        mac: MAC,
        mtu: None,
        master,
        peer_name: "veth1",
        peer_mac: OTHER_MAC,
        peer_netns: own.as_fd(),
    })?)
}

fn make_macvlan() -> Result<(), Box<dyn Error>> {
    /// `MACVLAN_MODE_BRIDGE` of linux/if_link.h.
    const WITH_EACH_OTHER: u32 = 4;
    make_bridge()?;
    let own = namespace::own(Namespaces::NETWORK)?;
    let mut links = Links::open()?;
    let parent = links.require(BRIDGE)?.index;
    Ok(links.create_macvlan(&Macvlan {
        name: "macvlan0",
        parent,
        mode: WITH_EACH_OTHER,
        mtu: None,
        mac: OTHER_MAC,
        broadcast_queue: None,
        netns: own.as_fd(),
    })?)
}

fn make_nft() -> Result<(), Box<dyn Error>> {
    Ok(Nft::open("check")?.ensure_table()?)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn absent(plugins: &'static [&'static str]) -> Device {
        Device { name: "x", plugins, module: "x", make: || Err("no such device".into()) }
    }

    #[test]
    fn what_the_kernel_lacks_fails_only_if_the_configured_network_needs_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert_eq!(device(&absent(&["bridge"]), &["bridge"]).verdict, Verdict::Failed);
        assert_eq!(device(&absent(&["bridge"]), &["macvlan"]).verdict, Verdict::Warning);
        for one in &DEVICES {
            let finding = device(one, &[]);
            assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_program_that_speaks_another_version_fails() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("x");
        let text = b"#!/bin/sh\necho '{\"supportedVersions\":[\"0.4.0\"]}'\n";
        cringle_store::atomic::replace(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (version, expected) in [("0.4.0", Verdict::Ok), ("1.1.0", Verdict::Failed)] {
            let found = Surveyed {
                kind: "x".to_owned(),
                version: version.to_owned(),
                program: Ok(Some(program.clone())),
            };
            assert_eq!(plugin(&found).await.verdict, expected, "{version}");
        }
    }
}
