//! Hiding the addresses of containers from everything beyond their own bridge.

use std::net::IpAddr;

use crate::context::Context;
use crate::nft::{Element, KeyPart, Set};
use crate::owner::Owner;
use crate::plugin::{Call, refused};
use crate::spec::Error;
use crate::spec::result::Result as CniResult;

/// Hides the addresses in the result.
pub(crate) fn add(
    owner: &Owner,
    bridge: &str,
    result: &CniResult,
    context: &mut Context,
) -> Result<(), Error> {
    let owner = owner.to_string();
    let mut elements = Vec::new();
    for ip in &result.ips {
        let address = ip.address.addr();
        let (hidden, within) = match address {
            IpAddr::V4(_) => (Set::Masq4, Set::Within4),
            IpAddr::V6(_) => (Set::Masq6, Set::Within6),
        };
        let address = KeyPart::Address(address);
        elements.push(Element::new(hidden, &[address], &[], &owner));
        elements.push(Element::new(within, &[address, KeyPart::Interface(bridge)], &[], &owner));
    }
    context.nft().and_then(|nft| nft.add(&elements)).map_err(refused)
}

/// Forgets the addresses of that owner.
pub(crate) fn remove(owner: &Owner, context: &mut Context) -> Result<(), Error> {
    let owner = owner.to_string();
    let is_theirs = |element: &Element| element.owner == owner;
    context
        .nft()
        .and_then(|nft| nft.remove_where(&Set::MASQUERADING, is_theirs))
        .map(drop)
        .map_err(refused)
}

/// Forgets the addresses of this network that no valid attachment has.
pub(crate) fn collect(call: &Call<'_>, context: &mut Context) -> Result<(), Error> {
    let is_stray =
        |element: &Element| Owner::parse(&element.owner).is_some_and(|owner| call.is_stray(&owner));
    context
        .nft()
        .and_then(|nft| nft.remove_where(&Set::MASQUERADING, is_stray))
        .map(drop)
        .map_err(refused)
}
