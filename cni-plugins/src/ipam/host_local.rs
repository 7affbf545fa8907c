//! `host-local`: gives out addresses of ranges, and keeps account of them in files.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

use super::range::RangeSet;
use super::request::LeaseRequest;
use super::store::{self, Leases, StoreError, Taking};
use crate::context::Context;
use crate::plugin::{Call, Plugin};
use crate::spec::Error;
use crate::spec::error::{
    CHECK_FAILED, INPUT_OUTPUT, LIMITED_CONNECTIVITY, NO_ADDRESS, NOT_AVAILABLE, TRY_AGAIN_LATER,
};
use crate::spec::result::{Dns, IpConfig, Result as CniResult};

/// The plugin.
#[derive(Debug)]
pub(crate) struct HostLocal;

impl Plugin for HostLocal {
    fn add(&self, call: &Call<'_>, context: &mut Context) -> Result<CniResult, Error> {
        let request = LeaseRequest::parse(call)?;
        let dns =
            request.resolv_conf.as_deref().map(read_resolv_conf).transpose()?.unwrap_or_default();
        let mut leases = Leases::lock(&request.directory, &mut context.leases)
            .map_err(|error| failed(&error))?;
        let mut ips = Vec::new();
        let outcome = allocate_all(call, &request, &mut leases, &mut ips);
        if let Err(error) = outcome {
            for ip in ips {
                leases.release(ip.address.addr()).map_err(|error| failed(&error))?;
            }
            return Err(error);
        }
        Ok(CniResult { interfaces: Vec::new(), ips, routes: request.routes, dns })
    }

    fn delete(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let directory = LeaseRequest::directory(call)?;
        if !directory.exists() {
            return Ok(());
        }
        let mut leases =
            Leases::lock(&directory, &mut context.leases).map_err(|error| failed(&error))?;
        for address in leases.of(&call.request.container_id, &call.request.if_name) {
            leases.release(address).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let directory = LeaseRequest::directory(call)?;
        let leases =
            Leases::lock(&directory, &mut context.leases).map_err(|error| failed(&error))?;
        if leases.of(&call.request.container_id, &call.request.if_name).is_empty() {
            return Err(Error::new(
                CHECK_FAILED,
                format!("no address is leased to {}", call.owner()),
            ));
        }
        Ok(())
    }

    fn collect(&self, call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
        let directory = LeaseRequest::directory(call)?;
        if !directory.exists() {
            return Ok(());
        }
        let mut leases =
            Leases::lock(&directory, &mut context.leases).map_err(|error| failed(&error))?;
        let is_kept = |container_id: &str, if_name: &str| {
            call.network.valid_attachments.iter().any(|kept| {
                kept.container_id == container_id && (kept.if_name == if_name || if_name.is_empty())
            })
        };
        let strays: Vec<IpAddr> = leases
            .all()
            .filter(|(_, id, if_name)| !is_kept(id, if_name))
            .map(|(address, ..)| address)
            .collect();
        strays
            .into_iter()
            .map(|address| leases.release(address))
            .fold(Ok(()), Result::and)
            .map_err(|error| failed(&error))
    }

    fn status(&self, call: &Call<'_>, _: &mut Context) -> Result<(), Error> {
        let request = LeaseRequest::parse(call)?;
        let taken: HashSet<IpAddr> =
            store::names(&request.directory).map(HashSet::from_iter).map_err(|cause| {
                Error::with_details(
                    NOT_AVAILABLE,
                    format!("failed to read {:?}", request.directory),
                    cause.to_string(),
                )
            })?;
        for (index, set) in request.sets.iter().enumerate() {
            if set.after(None).all(|address| taken.contains(&address)) {
                return Err(Error::new(
                    NOT_AVAILABLE,
                    format!("range set {index} has no free address"),
                ));
            }
        }
        let writable = rustix::fs::access(&request.directory, rustix::fs::Access::WRITE_OK);
        if writable == Err(rustix::io::Errno::ROFS) {
            return Err(Error::new(
                LIMITED_CONNECTIVITY,
                format!("{:?} is read-only", request.directory),
            ));
        }
        Ok(())
    }
}

fn failed(error: &StoreError) -> Error {
    let code = match error {
        StoreError::Busy(_) => TRY_AGAIN_LATER,
        StoreError::Directory { .. } | StoreError::Lease { .. } => INPUT_OUTPUT,
    };
    Error::of(code, error)
}

/// One address of each set. What was taken before a failure is in `ips` for the caller to give back.
fn allocate_all(
    call: &Call<'_>,
    request: &LeaseRequest,
    leases: &mut Leases<'_>,
    ips: &mut Vec<IpConfig>,
) -> Result<(), Error> {
    let mut wanted = request.wanted.clone();
    let held = leases.of(&call.request.container_id, &call.request.if_name);
    for (index, set) in request.sets.iter().enumerate() {
        if let Some(address) = held.iter().find(|address| set.range_of(**address).is_some()) {
            let text = format!("{address} is leased to {} already", call.owner());
            return Err(Error::new(NO_ADDRESS, text));
        }
        let address = match wanted.iter().position(|address| set.range_of(*address).is_some()) {
            Some(place) => take_wanted(call, set, leases, wanted.swap_remove(place))?,
            None => take_next(call, set, leases, index)?,
        };
        let Some(range) = set.range_of(address) else { continue };
        let Ok(net) = IpNet::new(address, range.subnet.prefix_len()) else { continue };
        ips.push(IpConfig { interface: None, address: net, gateway: range.gateway });
        leases.note_last(index, address).map_err(|error| failed(&error))?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Err(Error::new(NO_ADDRESS, format!("requested addresses {} are in no range", texts.join(", "))))
}

fn take_wanted(
    call: &Call<'_>,
    set: &RangeSet,
    leases: &mut Leases<'_>,
    address: IpAddr,
) -> Result<IpAddr, Error> {
    if set.is_gateway(address) {
        return Err(Error::new(
            NO_ADDRESS,
            format!("requested address {address} is the gateway of its subnet"),
        ));
    }
    match leases
        .take(address, &call.request.container_id, &call.request.if_name)
        .map_err(|error| failed(&error))?
    {
        Taking::Done => Ok(address),
        Taking::TakenAlready => {
            Err(Error::new(NO_ADDRESS, format!("requested address {address} is taken")))
        }
    }
}

fn take_next(
    call: &Call<'_>,
    set: &RangeSet,
    leases: &mut Leases<'_>,
    index: usize,
) -> Result<IpAddr, Error> {
    // Round robin, because peers and connection tracking remember an address for a while.
    for address in set.after(leases.last(index)) {
        if leases.is_taken(address) {
            continue;
        }
        if leases
            .take(address, &call.request.container_id, &call.request.if_name)
            .map_err(|error| failed(&error))?
            == Taking::Done
        {
            return Ok(address);
        }
    }
    Err(Error::new(
        NO_ADDRESS,
        format!("range set {index} of network {:?} has no free address", call.network.name),
    ))
}

fn read_resolv_conf(path: &std::path::Path) -> Result<Dns, Error> {
    let text = fs::read_to_string(path).map_err(|cause| {
        Error::with_details(INPUT_OUTPUT, format!("failed to read {path:?}"), cause.to_string())
    })?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            Some(_) | None => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
mod tests;
