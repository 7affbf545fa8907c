//! `macvlan`: gives the container a device of its own on a link of the host, next to the host rather than behind it.

use std::os::fd::AsFd as _;

use serde::Deserialize;

use crate::context::{Context, NetnsFate};
use crate::ipam;
use crate::link::{self, Link, LinkError, Links};
use crate::netns::Netns;
use crate::plugin::{Call, Plugin, refused};
use crate::pod;
use crate::spec::conf::{null_as_default, parse_as};
use crate::spec::error::CHECK_FAILED;
use crate::spec::result::{Interface, Result as CniResult};
use crate::spec::{Error, name};

/// The plugin.
#[derive(Debug)]
pub(crate) struct Macvlan;

#[derive(Deserialize)]
struct Conf {
    #[serde(default, deserialize_with = "null_as_default")]
    master: String,
    #[serde(default, deserialize_with = "null_as_default")]
    mode: String,
    #[serde(default, deserialize_with = "null_as_default")]
    mtu: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    mac: String,
    #[serde(rename = "linkInContainer", default, deserialize_with = "null_as_default")]
    link_in_container: bool,
    #[serde(rename = "bcqueuelen", default)]
    broadcast_queue: Option<i64>,
    #[serde(rename = "runtimeConfig", default, deserialize_with = "null_as_default")]
    runtime: WithMac,
    #[serde(default, deserialize_with = "null_as_default")]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default, deserialize_with = "null_as_default")]
    cni: WithMac,
}

#[derive(Default, Deserialize)]
struct WithMac {
    #[serde(default, deserialize_with = "null_as_default")]
    mac: String,
}

impl Plugin for Macvlan {
    fn add(&self, call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error> {
        let conf: Conf = parse_as(call.config())?;
        let netns = call.netns()?;
        let mut result = ipam::add(call, context)?;
        match attach(call, &conf, context, (&netns, &mut result)) {
            Ok(()) => Ok(result),
            Err(error) => Err(error.after_undoing(ipam::delete(call, context))),
        }
    }

    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        if context.netns_fate == NetnsFate::Kept {
            pod::remove(call)?;
        }
        ipam::delete(call, context)
    }

    fn check(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let netns = call.netns()?;
        let if_name = call.request.if_name.clone();
        let look = || Links::open().and_then(|mut links| links.by_name(&if_name));
        let found = netns.within(look).map_err(refused)?.map_err(refused)?;
        if found.is_none_or(|link| link.kind != "macvlan") {
            return Err(Error::new(
                CHECK_FAILED,
                format!("interface {:?} is no macvlan", call.request.if_name),
            ));
        }
        pod::check(call, &netns, call.prev_result()?)?;
        ipam::check(call, context)
    }

    fn collect(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        // A macvlan lives in its container's namespace and goes with it.
        ipam::collect(call, context)
    }

    fn status(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let conf: Conf = parse_as(call.config())?;
        mode(&conf)?;
        ipam::status(call, context)
    }
}

/// The mode, as the kernel numbers it.
fn mode(conf: &Conf) -> Result<u32, Error> {
    match conf.mode.as_str() {
        "private" => Ok(1),
        "vepa" => Ok(2),
        "" | "bridge" => Ok(4),
        "passthru" => Ok(8),
        other => Err(Error::configuration(format!(
            "mode {other:?} is none of bridge, private, vepa, passthru"
        ))),
    }
}

fn attach(
    call: &Call<'_>,
    conf: &Conf,
    context: &mut Context,
    (netns, result): (&Netns, &mut CniResult),
) -> Result<(), Error> {
    if call.network.ipam_type.is_some() && result.ips.is_empty() {
        return Err(Error::configuration("the ipam plugin has given out no address"));
    }
    // Either set of links works from its own namespace, and the device is born in the container's.
    let link = if conf.link_in_container {
        let create = || {
            Links::open()
                .map_err(refused)
                .and_then(|mut links| create(call, conf, &mut links, netns))
        };
        netns.within(create).map_err(refused)??
    } else {
        create(call, conf, context.links().map_err(refused)?, netns)?
    };
    result.interfaces = vec![Interface {
        name: call.request.if_name.clone(),
        mac: link.mac_text(),
        mtu: Some(link.mtu).filter(|mtu| *mtu != 0),
        sandbox: Some(netns.path().display().to_string()),
        ..Interface::default()
    }];
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    if !call.network.dns.is_empty() {
        result.dns = call.network.dns.clone();
    }
    pod::configure(netns, &call.request.if_name, result)
        .map_err(|error| error.after_undoing(pod::remove(call)))
}

fn create(call: &Call<'_>, conf: &Conf, links: &mut Links, netns: &Netns) -> Result<Link, Error> {
    let master = master(conf, links)?;
    let mtu = match u32::try_from(conf.mtu) {
        Ok(mtu) if mtu <= master.mtu => Some(mtu).filter(|mtu| *mtu != 0),
        Ok(_) | Err(_) => {
            let text = format!(
                "mtu {} is not between 0 and {}, that of {:?}",
                conf.mtu, master.mtu, master.name
            );
            return Err(Error::configuration(text));
        }
    };
    let texts = [
        conf.runtime.mac.as_str(),
        conf.args.cni.mac.as_str(),
        call.argument("MAC").unwrap_or_default(),
    ];
    let mac = match texts.into_iter().chain([conf.mac.as_str()]).find(|text| !text.is_empty()) {
        None => link::random_mac().map_err(refused)?,
        Some(text) => link::parse_mac(text).ok_or_else(|| {
            Error::configuration(format!("mac {text:?} is not a hardware address"))
        })?,
    };
    let macvlan = link::Macvlan {
        name: &call.request.if_name,
        parent: master.index,
        mode: mode(conf)?,
        mtu,
        mac,
        broadcast_queue: conf
            .broadcast_queue
            .and_then(|length| u32::try_from(length).ok())
            .filter(|length| *length != 0),
        netns: netns.as_fd(),
    };
    links.create_macvlan(&macvlan).map_err(refused)?;
    Ok(Link {
        name: call.request.if_name.clone(),
        mac: mac.to_vec(),
        mtu: mtu.unwrap_or(master.mtu),
        ..Link::default()
    })
}

/// The link that the device rides on: the configured one, or the one that the default route leaves by.
fn master(conf: &Conf, links: &mut Links) -> Result<Link, Error> {
    if conf.master.is_empty() {
        let missing = || {
            Error::configuration("no master is given and there is no default route to find one by")
        };
        return pod::default_route_link(links).map_err(refused)?.ok_or_else(missing);
    }
    if !name::is_interface(&conf.master) {
        return Err(Error::configuration(format!(
            "master {:?} can't be the name of an interface",
            conf.master
        )));
    }
    links.require(&conf.master).map_err(|error: LinkError| refused(error))
}

#[cfg(test)]
mod tests;
