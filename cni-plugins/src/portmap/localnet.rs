//! Whether packets from 127.0.0.1 may leave by a link. Allowed for the links that published ports are behind, and only
//! once the table with its guard is there: without the guard, neighbours could reach what listens on 127.0.0.1.

use crate::nft::{Element, Nft, Set};
use crate::plugin::refused;
use crate::spec::Error;
use crate::sysctl::{self, Family};

const SETTING: &str = "route_localnet";

pub(super) fn allow(link: &str) -> Result<(), Error> {
    sysctl::set_interface(Family::V4, link, SETTING, "1").map_err(refused)
}

/// Takes the permission back from links that no published port is behind any more.
pub(super) fn reset_unused(removed: &[Element], nft: &mut Nft) -> Result<(), Error> {
    let mut links: Vec<&str> = removed
        .iter()
        .filter(|element| element.set == Set::Hairpin4)
        .filter_map(Element::interface)
        .collect();
    links.sort_unstable();
    links.dedup();
    for link in links {
        if is_used(link, nft)? {
            continue;
        }
        sysctl::set_interface_if_present(Family::V4, link, SETTING, "0").map_err(refused)?;
        // A port may have been published meanwhile: its element came before its permission, so it is seen now.
        if is_used(link, nft)? {
            allow(link)?;
        }
    }
    Ok(())
}

fn is_used(link: &str, nft: &mut Nft) -> Result<bool, Error> {
    let found = nft.elements(Set::Hairpin4).map_err(refused)?;
    Ok(found.iter().any(|element| element.interface() == Some(link)))
}
