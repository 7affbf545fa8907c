//! `bridge`: joins containers by a bridge on the host.
//!
//! ADD makes the pair of devices with one message, the container's end born in its namespace: moving it there would wait
//! for every processor. The host's end has a name that follows from the attachment and bears its owner as alias, so DEL
//! finds it without the namespace, the result or any record.

mod conf;
mod inspect;

use ipnet::IpNet;

use conf::Conf;

use crate::context::{Context, NetnsFate};
use crate::ipam;
use crate::link::{self, BridgePort, Link, RouteEntry, Veth};
use crate::masquerade;
use crate::netns::Netns;
use crate::owner::Owner;
use crate::plugin::{Call, Plugin, refused};
use crate::pod;
use crate::spec::Error;
use crate::spec::error::{INVALID_CONFIGURATION, KERNEL_REFUSED};
use crate::spec::result::{Interface, Result as CniResult, Route};
use crate::sysctl::{self, Family};

/// How many names for the host's end are tried.
const NAMES: u32 = 10;

/// The plugin.
#[derive(Debug)]
pub(crate) struct Bridge;

impl Plugin for Bridge {
    fn add(&self, call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error> {
        let conf = Conf::parse(call)?;
        let netns = call.netns()?;
        let bridge = ensure_bridge(&conf, context)?;
        let mut result = ipam::add(call, context)?;
        let attached = check_addresses(call, &conf, &mut result)
            .and_then(|()| attach(call, &conf, context, (&netns, &bridge, &mut result)));
        match attached {
            Ok(()) => Ok(result),
            Err(error) => Err(error.after_undoing(ipam::delete(call, context))),
        }
    }

    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let owner = call.owner();
        if Conf::parse_leniently(call)?.ip_masq {
            masquerade::remove(&owner, context)?;
        }
        if context.netns_fate == NetnsFate::Kept && !delete_host_end(&owner, context)? {
            pod::remove(call)?;
        }
        ipam::delete(call, context)
    }

    fn check(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let conf = Conf::parse(call)?;
        inspect::check(call, &conf, context)?;
        ipam::check(call, context)
    }

    fn collect(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let elements = masquerade::collect(call, context);
        let instance = context.instance().to_owned();
        let links = context.links().map_err(refused)?;
        let mut strays = links.all().map_err(refused)?;
        strays.retain(|link| {
            Owner::of_alias(&link.alias, &instance).is_some_and(|owner| call.is_stray(&owner))
        });
        let removed = links.delete_all(&strays).map_err(refused);
        elements.and(removed).and(ipam::collect(call, context))
    }

    fn status(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        Conf::parse(call)?;
        ipam::status(call, context)
    }
}

/// Adopts the bridge or makes it. Whoever loses a race to make it adopts what the winner has made.
fn ensure_bridge(conf: &Conf, context: &mut Context) -> Result<Link, Error> {
    let links = context.links().map_err(refused)?;
    let bridge = match links.by_name(&conf.bridge).map_err(refused)? {
        Some(bridge) => bridge,
        None => {
            let mac = link::random_mac().map_err(refused)?;
            let mtu = match conf.mtu {
                Some(mtu) => Some(mtu),
                None => pod::default_route_mtu(links).map_err(refused)?,
            };
            match links.create_bridge(&conf.bridge, mac, mtu) {
                Err(error) if error.errno() != Some(rustix::io::Errno::EXIST.raw_os_error()) => {
                    return Err(refused(error));
                }
                Ok(()) | Err(_) => {}
            }
            sysctl::set_interface_if_present(Family::V6, &conf.bridge, "accept_ra", "0")
                .map_err(refused)?;
            links.require(&conf.bridge).map_err(refused)?
        }
    };
    if bridge.kind != "bridge" {
        let text = format!("link {:?} is there already and is no bridge", conf.bridge);
        return Err(Error::new(INVALID_CONFIGURATION, text));
    }
    let wanted = Link::UP | if conf.promisc_mode { Link::PROMISCUOUS } else { 0 };
    if !bridge.has(wanted) {
        links.set_flags(&bridge, wanted, wanted).map_err(refused)?;
    }
    Ok(bridge)
}

/// Completes what IPAM has given out: gateways and default routes.
fn check_addresses(call: &Call<'_>, conf: &Conf, result: &mut CniResult) -> Result<(), Error> {
    if call.network.ipam_type.is_none() {
        return Ok(());
    }
    if result.ips.is_empty() {
        return Err(Error::configuration("the ipam plugin has given out no address"));
    }
    for ip in &mut result.ips {
        if ip.gateway.is_none() && conf.is_gateway {
            ip.gateway = ip.address.hosts().next();
        }
    }
    if conf.is_default_gateway {
        for everywhere in
            ["0.0.0.0/0", "::/0"].into_iter().filter_map(|text| text.parse::<IpNet>().ok())
        {
            let is_v4 = everywhere.addr().is_ipv4();
            let gateway = result
                .ips
                .iter()
                .filter(|ip| ip.address.addr().is_ipv4() == is_v4)
                .find_map(|ip| ip.gateway);
            if gateway.is_some() && !result.routes.iter().any(|route| route.dst == everywhere) {
                result.routes.push(Route::new(everywhere, gateway));
            }
        }
    }
    Ok(())
}

/// Makes the devices and configures both sides. On failure the devices are gone again.
fn attach(
    call: &Call<'_>,
    conf: &Conf,
    context: &mut Context,
    (netns, bridge, result): (&Netns, &Link, &mut CniResult),
) -> Result<(), Error> {
    let mac = conf.mac.map_or_else(link::random_mac, Ok).map_err(refused)?;
    let host_mac = link::random_mac().map_err(refused)?;
    let mtu = conf.mtu.unwrap_or(bridge.mtu);
    let veth = |name: &str, context: &mut Context| {
        let veth = Veth {
            name,
            mac: host_mac,
            mtu: Some(mtu),
            master: bridge.index,
            peer_name: &call.request.if_name,
            peer_mac: mac,
            peer_netns: std::os::fd::AsFd::as_fd(netns),
        };
        context.links()?.create_veth(&veth)
    };
    let owner = call.owner();
    let host_name = create_named(&owner, context, veth)?;
    result.interfaces = vec![
        interface(&bridge.name, &bridge.mac, bridge.mtu),
        interface(&host_name, &host_mac, mtu),
        Interface {
            sandbox: Some(netns.path().display().to_string()),
            ..interface(&call.request.if_name, &mac, mtu)
        },
    ];
    for ip in &mut result.ips {
        ip.interface = Some(2);
    }
    if !call.network.dns.is_empty() {
        result.dns = call.network.dns.clone();
    }
    finish(call, conf, context, (netns, bridge, &host_name, result)).map_err(|error| {
        let undone = if conf.ip_masq { masquerade::remove(&owner, context) } else { Ok(()) };
        error.after_undoing(undone).after_undoing(delete_created(&host_name, context))
    })
}

fn interface(name: &str, mac: &[u8], mtu: u32) -> Interface {
    Interface {
        name: name.into(),
        mac: link::mac_text(mac),
        mtu: Some(mtu),
        ..Interface::default()
    }
}

/// The names that the host's end may have, in the order they are tried.
fn host_names(owner: &Owner, instance: &str) -> impl Iterator<Item = String> {
    let hashes: Vec<u64> = (0..NAMES).map(|attempt| owner.fingerprint(instance, attempt)).collect();
    hashes.into_iter().map(|hash| format!("veth{:011x}", hash & 0xfff_ffff_ffff))
}

fn create_named(
    owner: &Owner,
    context: &mut Context,
    create: impl Fn(&str, &mut Context) -> Result<(), link::LinkError>,
) -> Result<String, Error> {
    let instance = context.instance().to_owned();
    let mut last = None;
    for name in host_names(owner, &instance) {
        match create(&name, context) {
            Ok(()) => return Ok(name),
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {
                let found = context.links().map_err(refused)?.by_name(&name).map_err(refused)?;
                // If the host's name is free or ours, it is the container that has such an interface already.
                let is_ours =
                    |link: Link| link.alias.is_empty() || link.alias == owner.alias(&instance);
                if found.is_none_or(is_ours) {
                    return Err(refused(error));
                }
                last = Some(error);
            }
            Err(error) => return Err(refused(error)),
        }
    }
    Err(last.map_or_else(|| Error::new(KERNEL_REFUSED, "failed to name a link"), refused))
}

fn finish(
    call: &Call<'_>,
    conf: &Conf,
    context: &mut Context,
    (netns, bridge, host_name, result): (&Netns, &Link, &str, &CniResult),
) -> Result<(), Error> {
    let alias = call.owner().alias(context.instance());
    let port = BridgePort { hairpin: conf.hairpin_mode, isolated: conf.port_isolation };
    context.links().and_then(|links| links.set_port(host_name, &alias, port)).map_err(refused)?;
    sysctl::set_interface_if_present(Family::V6, host_name, "accept_ra", "0").map_err(refused)?;
    if conf.disable_container_interface {
        return Ok(());
    }
    pod::configure(netns, &call.request.if_name, result)?;
    if conf.is_gateway {
        set_gateways(conf, context, bridge, result)?;
    }
    if conf.ip_masq {
        masquerade::add(&call.owner(), &bridge.name, result, context)?;
    }
    Ok(())
}

/// Gives the bridge the addresses that containers send to, and lets the host pass their packets on.
fn set_gateways(
    conf: &Conf,
    context: &mut Context,
    bridge: &Link,
    result: &CniResult,
) -> Result<(), Error> {
    let links = context.links().map_err(refused)?;
    let found = links.addresses(bridge).map_err(refused)?;
    let mut missing = Vec::new();
    for ip in &result.ips {
        let Some(gateway) =
            ip.gateway.and_then(|gateway| IpNet::new(gateway, ip.address.prefix_len()).ok())
        else {
            continue;
        };
        sysctl::enable_forwarding(family(&gateway)).map_err(refused)?;
        if found.iter().any(|found| found.address == gateway) || missing.contains(&gateway) {
            continue;
        }
        for other in found.iter().filter(|other| conflicts(&other.address, &gateway)) {
            if !conf.force_address {
                let text = format!(
                    "bridge {:?} has address {} and not {gateway}",
                    bridge.name, other.address
                );
                return Err(Error::new(INVALID_CONFIGURATION, text));
            }
            links.remove_address(bridge, other.address).map_err(refused)?;
        }
        missing.push(gateway);
    }
    if missing.iter().any(|gateway| gateway.addr().is_ipv6()) {
        sysctl::set_interface_if_present(Family::V6, &bridge.name, "disable_ipv6", "0")
            .map_err(refused)?;
    }
    let none: &[RouteEntry] = &[];
    for gateway in missing {
        match context.links().and_then(|links| links.configure(bridge, &[gateway], none)) {
            // Another process attaching to the same bridge was faster.
            Err(error) if error.errno() != Some(rustix::io::Errno::EXIST.raw_os_error()) => {
                return Err(refused(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn family(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

/// Whether an address that the bridge has keeps it from being the gateway. Networks that don't overlap may share a bridge
/// only for IPv6, where every interface has several addresses.
fn conflicts(found: &IpNet, gateway: &IpNet) -> bool {
    match (found, gateway) {
        (IpNet::V4(_), IpNet::V4(_)) => true,
        (IpNet::V6(found), IpNet::V6(gateway)) => {
            found.contains(&gateway.trunc()) || gateway.contains(&found.trunc())
        }
        (IpNet::V4(_), IpNet::V6(_)) | (IpNet::V6(_), IpNet::V4(_)) => false,
    }
}

/// Deletes a link that this very call has made, which may not bear its alias yet.
fn delete_created(name: &str, context: &mut Context) -> Result<(), Error> {
    let links = context.links().map_err(refused)?;
    let found = links.by_name(name).map_err(refused)?;
    found.map_or(Ok(()), |link| links.delete(&link)).map_err(refused)
}

/// Deletes the host's end, and with it the container's; says whether it was there.
fn delete_host_end(owner: &Owner, context: &mut Context) -> Result<bool, Error> {
    let instance = context.instance().to_owned();
    let alias = owner.alias(&instance);
    let links = context.links().map_err(refused)?;
    for name in host_names(owner, &instance) {
        match links.by_name(&name).map_err(refused)? {
            None => return Ok(false),
            // Without an alias it is one that a crash has kept from being finished.
            Some(found) if found.alias == alias || found.alias.is_empty() => {
                links.delete(&found).map_err(refused)?;
                return Ok(true);
            }
            // Another attachment has the name; ours would have got the next one.
            Some(_) => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
