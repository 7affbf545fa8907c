//! Who the process is: the request over the image, names explained by the image's account files.

use super::Accounts;
use crate::namespaces::IdMapping;
use crate::plan::Identity;
use crate::refusal::Refusal;
use crate::security::user::{Account, parse_id, parse_user, parse_user_and_group};
use crate::security::{ContainerSecurity, GroupsPolicy, UserRequest};
use std::collections::BTreeSet;

/// NGROUPS_MAX: setgroups(2) takes no more.
const MOST_GROUPS: usize = 65_536;

/// A user, found.
pub(super) struct Resolved {
    pub(super) identity: Identity,
    /// Its home directory, or the root.
    pub(super) home: String,
}

/// A line of /etc/passwd.
struct Entry<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

pub(super) fn resolve(
    security: &ContainerSecurity,
    image_user: &str,
    accounts: &Accounts<'_>,
) -> Result<Resolved, Refusal> {
    if security.group.is_some() && security.user == UserRequest::Image {
        return Err(Refusal::invalid(
            "linux.security_context.run_as_group",
            "is only taken together with run_as_user or run_as_username",
        ));
    }
    let (user, group) = wanted(security, image_user)?;
    let passwd = accounts.passwd.unwrap_or_default();
    let (user, entry) = match user {
        Account::Id(id) => (id, entries(passwd).find(|entry| entry.user == id)),
        Account::Name(name) => {
            let entry = entries(passwd).find(|entry| entry.name == name).ok_or_else(|| {
                Refusal::invalid(
                    field(security),
                    format!("user \"{name}\" is not in the image's /etc/passwd"),
                )
            })?;
            (entry.user, Some(entry))
        }
    };
    let group = match (security.group, group) {
        (Some(id), _) | (None, Some(Account::Id(id))) => id,
        (None, Some(Account::Name(name))) => group_id(accounts, name)?,
        // A number that the image does not know gets root's group, as everywhere in the field.
        (None, None) => entry.as_ref().map_or(0, |entry| entry.group),
    };
    let mut groups: BTreeSet<u32> = security.supplemental_groups.iter().copied().collect();
    // A process that is not in its own primary group's list escapes modes that shut that group out (CVE-2022-2995).
    groups.insert(group);
    if let (GroupsPolicy::Merge, Some(entry)) = (security.groups_policy, &entry) {
        groups.extend(groups_of(accounts.group.unwrap_or_default(), entry.name));
    }
    if groups.len() > MOST_GROUPS {
        return Err(Refusal::invalid(
            "linux.security_context.supplemental_groups",
            format!(
                "{} groups with the image's are more than the kernel's {MOST_GROUPS}",
                groups.len()
            ),
        ));
    }
    let home = entry.map(|entry| entry.home).filter(|home| is_home(home)).unwrap_or("/");
    Ok(Resolved {
        identity: Identity { user, group, groups: groups.into_iter().collect() },
        home: home.to_owned(),
    })
}

/// Who is nobody on the host can't be anybody inside.
///
/// # Errors
/// Invalid, naming the first id that is not in the range.
pub(super) fn require_mapped(identity: &Identity, mapping: IdMapping) -> Result<(), Refusal> {
    let users = [("user", identity.user, mapping.users)];
    let groups = identity.groups.iter().chain([&identity.group]);
    let groups = groups.map(|group| ("group", *group, mapping.groups));
    let mut all = users.into_iter().chain(groups);
    match all.find(|(_, id, range)| range.of_host(*id).is_none()) {
        None => Ok(()),
        Some((kind, id, range)) => {
            let problem = format!(
                "{kind} {id} is not among the {} that the pod's user namespace maps",
                range.length()
            );
            Err(Refusal::invalid("linux.security_context", problem))
        }
    }
}

/// Where the user is from.
fn field(security: &ContainerSecurity) -> &'static str {
    match security.user {
        UserRequest::Image => "image.user",
        UserRequest::Id(_) => "linux.security_context.run_as_user",
        UserRequest::Name(_) => "linux.security_context.run_as_username",
    }
}

/// User and group by the request, else by the image; a user of the request leaves the image's group out.
fn wanted<'a>(
    security: &'a ContainerSecurity,
    image_user: &'a str,
) -> Result<(Account<'a>, Option<Account<'a>>), Refusal> {
    match &security.user {
        UserRequest::Id(id) => Ok((Account::Id(*id), None)),
        UserRequest::Name(name) => parse_user(name)
            .map(|user| (user, None))
            .map_err(|error| Refusal::invalid(field(security), error.to_string())),
        UserRequest::Image if image_user.is_empty() => Ok((Account::Id(0), None)),
        UserRequest::Image => parse_user_and_group(image_user)
            .map(|both| (both.user, both.group))
            .map_err(|error| Refusal::invalid(field(security), error.to_string())),
    }
}

/// The well-formed lines of a passwd file; others are passed over, as the C library does.
fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let user = parse_id(fields.next()?)?;
        let group = parse_id(fields.next()?)?;
        let _comment = fields.next();
        Some(Entry { name, user, group, home: fields.next().unwrap_or_default() })
    })
}

fn group_id(accounts: &Accounts<'_>, name: &str) -> Result<u32, Refusal> {
    group_entries(accounts.group.unwrap_or_default())
        .find(|(known, ..)| *known == name)
        .map(|(_, id, _)| id)
        .ok_or_else(|| {
            Refusal::invalid(
                "image.user",
                format!("group \"{name}\" is not in the image's /etc/group"),
            )
        })
}

/// Numbers of the groups that list a user as a member.
fn groups_of<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> {
    group_entries(group)
        .filter(move |(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, id, _)| id)
}

fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let id = parse_id(fields.next()?)?;
        Some((name, id, fields.next().unwrap_or_default()))
    })
}

/// Absolute, and of one line: programs copy it into files of lines (CVE-2022-4318).
fn is_home(home: &str) -> bool {
    home.starts_with('/') && home.len() < 4096 && !home.contains(char::is_control)
}

#[cfg(test)]
mod tests;
