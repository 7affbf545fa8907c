//! The container's side of an attachment: its interface with addresses and routes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::link::{Link, LinkError, Links, RouteEntry};
use crate::netns::{Netns, NetnsError};
use crate::plugin::{Call, refused};
use crate::spec::Error;
use crate::spec::error::CHECK_FAILED;
use crate::spec::result::{Result as CniResult, Route};
use crate::sysctl::{self, Family, SysctlError};

/// Why the container's side could not be set up.
#[derive(Debug, thiserror::Error)]
enum PodError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Sets the interface up with the addresses and routes of the result.
pub(crate) fn configure(netns: &Netns, if_name: &str, result: &CniResult) -> Result<(), Error> {
    let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    let routes: Vec<RouteEntry> =
        result.routes.iter().map(|route| complete(route, result).into()).collect();
    let work = || -> Result<(), PodError> {
        set_sysctls(if_name, &addresses)?;
        let mut links = Links::open()?;
        let link = links.require(if_name)?;
        Ok(links.configure(&link, &addresses, &routes)?)
    };
    netns.within(work).map_err(refused)?.map_err(refused)
}

fn set_sysctls(if_name: &str, addresses: &[IpNet]) -> Result<(), SysctlError> {
    if addresses.iter().any(|address| address.addr().is_ipv4()) {
        // Tells the neighbours whose the address is now.
        sysctl::set_interface_if_present(Family::V4, if_name, "arp_notify", "1")?;
    }
    if addresses.iter().any(|address| address.addr().is_ipv6()) {
        sysctl::set_interface(Family::V6, if_name, "disable_ipv6", "0")?;
        // The kernel gives itself a link-local address, which would otherwise be unusable for a second.
        sysctl::set_interface_if_present(Family::V6, if_name, "accept_dad", "0")?;
        sysctl::set_interface_if_present(Family::V6, if_name, "ndisc_notify", "1")?;
        sysctl::set_interface_if_present(Family::V6, if_name, "keep_addr_on_down", "1")?;
    }
    Ok(())
}

/// The route with the way it takes: where none is given, the gateway of the address of the same family.
fn complete(route: &Route, result: &CniResult) -> Route {
    let is_v4 = route.dst.addr().is_ipv4();
    let same_family = |address: IpAddr| address.is_ipv4() == is_v4;
    let gateway =
        || result.ips.iter().filter(|ip| same_family(ip.address.addr())).find_map(|ip| ip.gateway);
    let is_direct = route.scope.is_some_and(|scope| scope != 0);
    Route { gw: route.gw.or_else(|| if is_direct { None } else { gateway() }), ..route.clone() }
}

/// Removes the interface from the container, if there is a container and it has one.
pub(crate) fn remove(call: &Call<'_>) -> Result<(), Error> {
    let Some(path) = call.request.netns.as_deref() else { return Ok(()) };
    let netns = match Netns::open(path) {
        // Nothing in the host's own namespace is a container's.
        Ok(netns) if netns.is_own() => return Ok(()),
        Ok(netns) => netns,
        // A path that is gone or names something else means that the container is gone.
        Err(NetnsError::Open { .. }) => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    let work = || {
        let mut links = Links::open()?;
        links.by_name(&call.request.if_name)?.map_or(Ok(()), |link| links.delete(&link))
    };
    netns.within(work).map_err(refused)?.map_err(refused)
}

/// Compares the container's side with the result.
pub(crate) fn check(call: &Call<'_>, netns: &Netns, result: &CniResult) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::new(CHECK_FAILED, text));
    let if_name = &call.request.if_name;
    let Some(place) = result
        .interfaces
        .iter()
        .position(|found| found.sandbox.is_some() && found.name == *if_name)
    else {
        return wrong(format!("interface {if_name:?} is not in the previous result"));
    };
    let look = || -> Result<_, LinkError> {
        let mut links = Links::open()?;
        let Some(link) = links.by_name(if_name)? else { return Ok(None) };
        Ok(Some((links.addresses(&link)?, links.routes()?, link)))
    };
    let found = netns.within(look).map_err(refused)?.map_err(refused)?;
    let Some((addresses, routes, link)) = found else {
        return wrong(format!("interface {if_name:?} is gone"));
    };
    let expected_mac =
        result.interfaces.get(place).map(|interface| interface.mac.as_str()).unwrap_or_default();
    if !expected_mac.is_empty() && !expected_mac.eq_ignore_ascii_case(&link.mac_text()) {
        return wrong(format!("interface {if_name:?} has hardware address {}", link.mac_text()));
    }
    for ip in result.ips.iter().filter(|ip| ip.interface == Some(place)) {
        if !addresses.iter().any(|found| found.address == ip.address) {
            return wrong(format!("address {} is gone from {if_name:?}", ip.address));
        }
    }
    for route in result.routes.iter().filter(|route| route.table.is_none()) {
        let expected = complete(route, result);
        if !routes
            .iter()
            .any(|found| found.route.dst == expected.dst.trunc() && found.route.gw == expected.gw)
        {
            return wrong(format!("route {} is gone", RouteEntry::from(expected)));
        }
    }
    Ok(())
}

/// The link that the default route leaves by, if there is one; IPv4 is asked first.
pub(crate) fn default_route_link(links: &mut Links) -> Result<Option<Link>, LinkError> {
    let routes = links.routes()?;
    let defaults = routes.iter().filter(|found| found.route.dst.prefix_len() == 0);
    let best = defaults.filter(|found| found.link.is_some()).min_by_key(|found| {
        (found.route.dst.addr().is_ipv6(), found.route.priority.unwrap_or_default())
    });
    best.and_then(|found| found.link).map_or(Ok(None), |index| links.by_index(index))
}

/// The MTU of the way out, which a container's packets must fit into.
pub(crate) fn default_route_mtu(links: &mut Links) -> Result<Option<u32>, LinkError> {
    Ok(default_route_link(links)?.map(|link| link.mtu))
}
