//! What a configuration asks of the plugins for addresses, from all the places where it may say so.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::range::{PointToPoint, RangeConf, RangeSet, address};
use crate::plugin::Call;
use crate::spec::conf::{null_as_default, parse_as};
use crate::spec::result::{Dns, Route};
use crate::spec::{Error, Version};

const DATA_DIRECTORY: &str = "/var/lib/cni/networks";

/// What `host-local` is asked for.
#[derive(Debug)]
pub(super) struct LeaseRequest {
    pub(super) sets: Vec<RangeSet>,
    pub(super) wanted: Vec<IpAddr>,
    pub(super) routes: Vec<Route>,
    /// The directory of this network's leases.
    pub(super) directory: PathBuf,
    pub(super) resolv_conf: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Conf {
    #[serde(default, deserialize_with = "null_as_default")]
    ipam: IpamConf,
    #[serde(rename = "runtimeConfig", default, deserialize_with = "null_as_default")]
    runtime: RuntimeConf,
    #[serde(default, deserialize_with = "null_as_default")]
    args: ArgsConf,
}

#[derive(Default, Deserialize)]
struct IpamConf {
    #[serde(default, deserialize_with = "null_as_default")]
    ranges: Vec<Vec<RangeConf>>,
    #[serde(flatten)]
    range: RangeConf,
    #[serde(default, deserialize_with = "null_as_default")]
    routes: Vec<Route>,
    #[serde(rename = "dataDir", default, deserialize_with = "null_as_default")]
    data_dir: String,
    #[serde(rename = "resolvConf", default, deserialize_with = "null_as_default")]
    resolv_conf: String,
    #[serde(rename = "allowPointToPoint", default, deserialize_with = "null_as_default")]
    allow_point_to_point: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    addresses: Vec<FixedAddress>,
    #[serde(default, deserialize_with = "null_as_default")]
    dns: Dns,
}

#[derive(Default, Deserialize)]
struct RuntimeConf {
    #[serde(default, deserialize_with = "null_as_default")]
    ips: Vec<String>,
    #[serde(rename = "ipRanges", default, deserialize_with = "null_as_default")]
    ip_ranges: Vec<Vec<RangeConf>>,
}

#[derive(Default, Deserialize)]
struct ArgsConf {
    #[serde(default, deserialize_with = "null_as_default")]
    cni: CniArgs,
}

#[derive(Default, Deserialize)]
struct CniArgs {
    #[serde(default, deserialize_with = "null_as_default")]
    ips: Vec<String>,
}

#[derive(Deserialize)]
struct FixedAddress {
    address: String,
    #[serde(default, deserialize_with = "null_as_default")]
    gateway: String,
}

impl LeaseRequest {
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let conf: Conf = parse_as(call.config())?;
        let point_to_point = if conf.ipam.allow_point_to_point {
            PointToPoint::Allowed
        } else {
            PointToPoint::Refused
        };
        let mut ranges = conf.runtime.ip_ranges;
        if !conf.ipam.range.subnet.is_empty() {
            ranges.push(vec![conf.ipam.range]);
        }
        ranges.extend(conf.ipam.ranges);
        let sets = ranges.iter().map(|set| RangeSet::parse(set, point_to_point));
        let sets: Vec<RangeSet> = sets.collect::<Result<_, _>>()?;
        check_sets(&sets, call.network.version)?;
        let texts =
            call.argument("IP").map(|ips| ips.split(',').map(str::to_owned)).into_iter().flatten();
        let texts = texts.chain(conf.args.cni.ips).chain(conf.runtime.ips);
        let wanted = texts.map(|text| plain(&text)).collect::<Result<_, _>>()?;
        let directory =
            if conf.ipam.data_dir.is_empty() { DATA_DIRECTORY } else { &conf.ipam.data_dir };
        Ok(Self {
            sets,
            wanted,
            routes: conf.ipam.routes,
            directory: PathBuf::from(directory).join(&call.network.name),
            resolv_conf: Some(conf.ipam.resolv_conf)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        })
    }

    /// The directory of the leases alone, for commands that must not fail over a range that is wrong.
    pub(super) fn directory(call: &Call<'_>) -> Result<PathBuf, Error> {
        let conf: Conf = parse_as(call.config())?;
        let directory =
            if conf.ipam.data_dir.is_empty() { DATA_DIRECTORY } else { &conf.ipam.data_dir };
        Ok(PathBuf::from(directory).join(&call.network.name))
    }
}

fn check_sets(sets: &[RangeSet], version: Version) -> Result<(), Error> {
    if sets.is_empty() {
        return Err(Error::configuration("no ip ranges are given"));
    }
    for (index, set) in sets.iter().enumerate() {
        if sets.iter().take(index).any(|other| other.overlaps(set)) {
            return Err(Error::configuration("range sets overlap"));
        }
    }
    let ipv4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if version <= Version::V0_2_0 && (ipv4 > 1 || sets.len() - ipv4 > 1) {
        let text = format!("cniVersion {version} does not know more than one address per family");
        return Err(Error::configuration(text));
    }
    Ok(())
}

/// An address that may have a prefix, which does not matter.
fn plain(text: &str) -> Result<IpAddr, Error> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(net.addr());
    }
    address("requested address", text)?
        .ok_or_else(|| Error::configuration("a requested address is empty"))
}

/// What `static` is asked for.
#[derive(Debug)]
pub(super) struct FixedRequest {
    pub(super) addresses: Vec<(IpNet, Option<IpAddr>)>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Dns,
}

impl FixedRequest {
    /// Each place overrides those before it: the configuration, `CNI_ARGS`, `args.cni`, the runtime's part.
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let conf: Conf = parse_as(call.config())?;
        let configured = conf.ipam.addresses.iter();
        let mut addresses = configured
            .map(|fixed| Ok((with_prefix(&fixed.address)?, address("gateway", &fixed.gateway)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let prefixed = |texts: &mut dyn Iterator<Item = &str>| -> Result<Vec<_>, Error> {
            texts.map(|text| Ok((with_prefix(text.trim())?, None))).collect()
        };
        if let Some(text) = call.argument("IP") {
            addresses = prefixed(&mut text.split(','))?;
            let gateways = call.argument("GATEWAY").unwrap_or_default().split(',');
            for gateway in gateways.filter(|gateway| !gateway.is_empty()) {
                let gateway = address("gateway", gateway.trim())?;
                let fits = |net: &IpNet| gateway.is_some_and(|gateway| net.contains(&gateway));
                addresses
                    .iter_mut()
                    .filter(|(net, _)| fits(net))
                    .for_each(|(_, found)| *found = gateway);
            }
        }
        for ips in [&conf.args.cni.ips, &conf.runtime.ips] {
            if !ips.is_empty() {
                addresses = prefixed(&mut ips.iter().map(String::as_str))?;
            }
        }
        Ok(Self { addresses, routes: conf.ipam.routes, dns: conf.ipam.dns })
    }
}

fn with_prefix(text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|cause| {
        Error::unparsed(format!("address {text:?} is not an address with a prefix"), &cause)
    })
}
