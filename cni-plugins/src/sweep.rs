//! What an instance of the runtime has on this host, found by the marks on it and by no record.

use crate::context::Context;
use crate::link::{Link, LinkError};
use crate::nft::{Element, NftError, Set};
use crate::owner::Owner;
use crate::sysctl::{self, Family, SysctlError};

/// Why a host could not be looked through or cleaned.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Something about links.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Something about the firewall.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Something about a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// What was removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The names of links.
    pub links: Vec<String>,
    /// Firewall elements, in words with their owners.
    pub elements: Vec<String>,
}

/// The links of this instance and whom they belong to.
///
/// # Errors
/// If the kernel doesn't answer.
pub fn owned_links(context: &mut Context) -> Result<Vec<(Link, Owner)>, SweepError> {
    let instance = context.instance().to_owned();
    let links = context.links()?.all()?;
    let owned = |link: Link| Owner::of_alias(&link.alias, &instance).map(|owner| (link, owner));
    Ok(links.into_iter().filter_map(owned).collect())
}

/// The firewall elements of this instance and whom they belong to.
///
/// # Errors
/// If the kernel doesn't answer.
pub fn owned_elements(context: &mut Context) -> Result<Vec<(Element, Owner)>, SweepError> {
    let nft = context.nft()?;
    let mut owned = Vec::new();
    for set in Set::ALL {
        let found = nft.elements(set)?.into_iter();
        owned.extend(
            found.filter_map(|element| Owner::parse(&element.owner).map(|owner| (element, owner))),
        );
    }
    Ok(owned)
}

/// Removes the links and firewall elements of this instance whose owner is not to be kept.
///
/// # Errors
/// If the kernel refuses; what could be removed is.
pub fn sweep(context: &mut Context, is_kept: impl Fn(&Owner) -> bool) -> Result<Swept, SweepError> {
    let is_stray =
        |element: &Element| Owner::parse(&element.owner).is_some_and(|owner| !is_kept(&owner));
    let elements = context.nft()?.remove_where(&Set::ALL, is_stray)?;
    let mut strays = owned_links(context)?;
    strays.retain(|(_, owner)| !is_kept(owner));
    let links: Vec<Link> = strays.into_iter().map(|(link, _)| link).collect();
    context.links()?.delete_all(&links)?;
    Ok(Swept {
        links: links.into_iter().map(|link| link.name).collect(),
        elements: elements
            .iter()
            .map(|element| format!("{} of {}", element.describe(), element.owner))
            .collect(),
    })
}

/// Removes all that this instance has on the host: links, elements, the table itself. Bridges stay, because others may use
/// them.
///
/// # Errors
/// If the kernel refuses.
pub fn remove_all(context: &mut Context) -> Result<(), SweepError> {
    // Before the guard goes, so must what it guards against.
    for element in context.nft()?.elements(Set::Hairpin4)? {
        if let Some(link) = element.interface() {
            sysctl::set_interface_if_present(Family::V4, link, "route_localnet", "0")?;
        }
    }
    let links: Vec<Link> = owned_links(context)?.into_iter().map(|(link, _)| link).collect();
    context.links()?.delete_all(&links)?;
    Ok(context.nft()?.remove_table()?)
}
