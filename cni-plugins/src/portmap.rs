//! `portmap`: publishes ports of a container on the host.
//!
//! A published port is one element of a map, and the kernel refuses an element that is there, so of two containers that
//! want the same port the second is told who has it. A port on one address and the same port on every address are in
//! different maps; that these don't meet is checked after the elements are in, so of two that come at the same time at
//! least one sees the other.

mod conf;
mod localnet;

use std::net::IpAddr;

use conf::{Conf, Mapping};

use crate::conntrack::{self, Connection};
use crate::context::Context;
use crate::nft::{Element, KeyPart, NftError, Set};
use crate::owner::Owner;
use crate::plugin::{Call, Plugin, refused};
use crate::spec::Error;
use crate::spec::error::{CHECK_FAILED, PORT_TAKEN};
use crate::spec::result::Result as CniResult;

/// The plugin.
#[derive(Debug)]
pub(crate) struct Portmap;

impl Plugin for Portmap {
    fn add(&self, call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error> {
        let conf = Conf::parse(call)?;
        let result = call.prev_result()?.clone();
        if conf.mappings.is_empty() {
            return Ok(result);
        }
        let pod = Pod::of(&result, context)?;
        let owner = call.owner().to_string();
        let elements = elements(&conf, &pod, &owner);
        insert(&elements, &owner, context)?;
        match check_overlap(&elements, context)
            .and_then(|()| finish(&elements, &pod, &conf, context))
        {
            Ok(()) => Ok(result),
            Err(error) => {
                Err(error.after_undoing(remove(context, |element| element.owner == owner)))
            }
        }
    }

    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let owner = call.owner().to_string();
        remove(context, |element| element.owner == owner)
    }

    fn check(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let conf = Conf::parse(call)?;
        let pod = Pod::of(call.prev_result()?, context)?;
        let expected = elements(&conf, &pod, &call.owner().to_string());
        let nft = context.nft().map_err(refused)?;
        for set in Set::PUBLISHING {
            let found = nft.elements(set).map_err(refused)?;
            let missing = expected
                .iter()
                .filter(|element| element.set == set)
                .find(|element| !found.contains(element));
            if let Some(missing) = missing {
                return Err(Error::new(
                    CHECK_FAILED,
                    format!("firewall element {} is gone", missing.describe()),
                ));
            }
        }
        Ok(())
    }

    fn collect(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        remove(context, |element| {
            Owner::parse(&element.owner).is_some_and(|owner| call.is_stray(&owner))
        })
    }

    fn status(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        Conf::parse(call)?;
        context.nft().map(drop).map_err(refused)
    }
}

/// Where the container is reached: its first address of each family, and the link of the host that leads there.
#[derive(Debug)]
struct Pod(Vec<(IpAddr, Option<String>)>);

impl Pod {
    fn of(result: &CniResult, context: &mut Context) -> Result<Self, Error> {
        let is_inside = |place: usize| {
            result.interfaces.get(place).is_some_and(|found| found.sandbox.is_some())
        };
        let inside = result.ips.iter().filter(|ip| ip.interface.is_none_or(is_inside));
        let addresses: Vec<IpAddr> = inside.map(|ip| ip.address.addr()).collect();
        let first = |is_v4: bool| addresses.iter().find(|address| address.is_ipv4() == is_v4);
        let links = context.links().map_err(refused)?;
        let mut pod = Vec::new();
        for address in [first(true), first(false)].into_iter().flatten() {
            let way = links.way_to(*address).map_err(refused)?;
            let link = way.map_or(Ok(None), |index| links.by_index(index)).map_err(refused)?;
            pod.push((*address, link.map(|link| link.name)));
        }
        Ok(Self(pod))
    }
}

fn elements(conf: &Conf, pod: &Pod, owner: &str) -> Vec<Element> {
    let mut elements = Vec::new();
    for (address, link) in &pod.0 {
        let is_v4 = address.is_ipv4();
        for mapping in conf.mappings.iter().filter(|mapping| mapping.is_for(*address)) {
            elements.push(published(mapping, *address, owner));
        }
        let is_used = elements.iter().any(|element: &Element| element.target() == Some(*address));
        if !conf.snat || !is_used {
            continue;
        }
        let (hairpin, itself) =
            if is_v4 { (Set::Hairpin4, Set::Self4) } else { (Set::Hairpin6, Set::Self6) };
        elements.push(Element::new(itself, &[KeyPart::Address(*address); 2], &[], owner));
        if let Some(link) = link.as_deref() {
            let key =
                [KeyPart::Address(*address), KeyPart::Interface(link), KeyPart::Interface(link)];
            elements.push(Element::new(hairpin, &key, &[], owner));
        }
    }
    elements
}

fn published(mapping: &Mapping, address: IpAddr, owner: &str) -> Element {
    let port = [KeyPart::Protocol(mapping.protocol), KeyPart::Port(mapping.host_port)];
    let target = [KeyPart::Address(address), KeyPart::Port(mapping.container_port)];
    match (mapping.specific_host_ip(), address.is_ipv4()) {
        (None, true) => Element::new(Set::Any4, &port, &target, owner),
        (None, false) => Element::new(Set::Any6, &port, &target, owner),
        (Some(host), is_v4) => {
            let set = if is_v4 { Set::Ip4 } else { Set::Ip6 };
            Element::new(set, &[KeyPart::Address(host), port[0], port[1]], &target, owner)
        }
    }
}

/// Adds the elements. Those that a former attempt of the same owner has left are replaced.
fn insert(elements: &[Element], owner: &str, context: &mut Context) -> Result<(), Error> {
    let nft = context.nft().map_err(refused)?;
    let mut outcome = nft.add(elements);
    if matches!(&outcome, Err(NftError::Taken { owner: Some(found), .. }) if found == owner) {
        nft.remove_where(&Set::PUBLISHING, |element| element.owner == owner).map_err(refused)?;
        outcome = nft.add(elements);
    }
    outcome.map_err(|error| match error {
        NftError::Taken { ref element, ref owner } => taken(element, owner.as_deref()),
        NftError::Open(_)
        | NftError::CreateTable { .. }
        | NftError::Add { .. }
        | NftError::Remove { .. }
        | NftError::Read { .. }
        | NftError::LongOwner(_) => refused(error),
    })
}

fn taken(element: &Element, owner: Option<&str>) -> Error {
    let port = element.port().unwrap_or_default();
    let owner = owner.filter(|owner| !owner.is_empty()).unwrap_or("someone else");
    Error::with_details(
        PORT_TAKEN,
        format!("host port {port} is taken by {owner}"),
        element.describe(),
    )
}

/// Refuses a port on every address that someone has on one address, and the other way round.
fn check_overlap(elements: &[Element], context: &mut Context) -> Result<(), Error> {
    let nft = context.nft().map_err(refused)?;
    for (set, opposite) in
        [(Set::Any4, Set::Ip4), (Set::Ip4, Set::Any4), (Set::Any6, Set::Ip6), (Set::Ip6, Set::Any6)]
    {
        let mut ours = elements.iter().filter(|element| element.set == set).peekable();
        if ours.peek().is_none() {
            continue;
        }
        let theirs = nft.elements(opposite).map_err(refused)?;
        for element in ours {
            let meets = |other: &&Element| {
                other.owner != element.owner
                    && (other.protocol(), other.port()) == (element.protocol(), element.port())
            };
            if let Some(other) = theirs.iter().find(meets) {
                return Err(taken(other, Some(&other.owner)));
            }
        }
    }
    Ok(())
}

/// What has to follow once the elements are in.
fn finish(
    elements: &[Element],
    pod: &Pod,
    conf: &Conf,
    context: &mut Context,
) -> Result<(), Error> {
    if conf.mappings.iter().any(Mapping::is_on_loopback) {
        for link in pod
            .0
            .iter()
            .filter(|(address, _)| address.is_ipv4())
            .filter_map(|(_, link)| link.as_deref())
        {
            localnet::allow(link)?;
        }
    }
    let sticky = sticky(elements);
    if sticky.is_empty() {
        return Ok(());
    }
    let leads_elsewhere = |connection: &Connection| {
        sticky.iter().any(|new| {
            (new.protocol, new.port) == (connection.protocol, connection.port)
                && new.answering.is_ipv4() == connection.answering.is_ipv4()
        }) && !sticky.contains(connection)
    };
    context
        .nft()
        .map_err(refused)
        .and_then(|nft| conntrack::forget(nft, leads_elsewhere).map_err(refused))
}

/// The ports whose connections have to be forgotten, and whom they lead to.
fn sticky(elements: &[Element]) -> Vec<Connection> {
    let connection = |element: &Element| {
        Some(Connection {
            protocol: element.protocol()?,
            port: element.port()?,
            answering: element.target()?,
        })
    };
    elements
        .iter()
        .filter_map(connection)
        .filter(|found| conntrack::is_sticky(found.protocol))
        .collect()
}

fn remove(context: &mut Context, is_meant: impl Fn(&Element) -> bool) -> Result<(), Error> {
    let nft = context.nft().map_err(refused)?;
    let removed = nft.remove_where(&Set::PUBLISHING, is_meant).map_err(refused)?;
    let sticky = sticky(&removed);
    if !sticky.is_empty() {
        conntrack::forget(nft, |connection| sticky.contains(connection)).map_err(refused)?;
    }
    localnet::reset_unused(&removed, nft)
}

#[cfg(test)]
mod tests;
