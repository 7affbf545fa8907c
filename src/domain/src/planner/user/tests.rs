//! Tables of users: what is asked for, what the image says, and who the process is.

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    www-data:x:33:33:www:/var/www:/bin/false\n\
    default-user:x:1000:1000::/home/default:/bin/sh\n\
    1234:x:0:0:a number for a name:/root:/bin/sh\n\
    -1:x:0:0:::\n\
    4294967296:x:0:0:::\n\
    wrapped:x:4294967296:4294967296:::\n\
    signed:x:-1:0:::\n\
    short:x:5\n\
    twin:x:1000:7:second with this number:/twin:\n\
    \n\
    +::::::\n";

const GROUP: &str = "root:x:0:\n\
    users:x:100:games,default-user\n\
    www-data:x:33:\n\
    group-defined-in-image:x:50000:default-user\n\
    other:x:60000:default-user-two,user\n\
    rooted:x:7:root\n\
    broken:x:x:default-user\n";

const ACCOUNTS: Accounts<'static> = Accounts { passwd: Some(PASSWD), group: Some(GROUP) };

fn asked(user: UserRequest) -> ContainerSecurity {
    ContainerSecurity { user, ..ContainerSecurity::default() }
}

fn identity(user: u32, group: u32, groups: &[u32]) -> Identity {
    Identity { user, group, groups: groups.to_vec() }
}

fn resolved(security: &ContainerSecurity, image_user: &str) -> Result<Identity, Refusal> {
    resolve(security, image_user, &ACCOUNTS).map(|resolved| resolved.identity)
}

#[test]
fn the_images_user_is_taken_when_the_request_names_none() {
    for (image_user, expected) in [
        ("", identity(0, 0, &[0, 7])),
        ("0", identity(0, 0, &[0, 7])),
        ("root", identity(0, 0, &[0, 7])),
        ("1002", identity(1002, 0, &[0])),
        ("www-data", identity(33, 33, &[33])),
        ("1003:users", identity(1003, 100, &[100])),
        ("www-data:100", identity(33, 100, &[100])),
        ("1000", identity(1000, 1000, &[100, 1000, 50000])),
        ("default-user:0", identity(1000, 0, &[0, 100, 50000])),
        ("1234", identity(1234, 0, &[0])),
    ] {
        assert_eq!(
            resolved(&asked(UserRequest::Image), image_user),
            Ok(expected),
            "{image_user:?}"
        );
    }
}

#[test]
fn an_odd_user_of_an_image_never_becomes_root() {
    for image_user in [
        "4294967295",
        "4294967296",
        "2147483648",
        "65536:65536:65536",
        "-1",
        "-0",
        "+0",
        "0x0",
        "00",
        " 1",
        "1 ",
        "1:",
        ":1",
        "1:4294967296",
        "١",
        "nobody-here",
        "www-data:nogroup-here",
        "wrapped",
        "signed",
        "short",
        "+",
    ] {
        assert!(resolved(&asked(UserRequest::Image), image_user).is_err(), "{image_user:?}");
    }
}

#[test]
fn a_user_of_the_request_leaves_the_images_user_and_group_out() {
    for (user, expected) in [
        (UserRequest::Id(0), identity(0, 0, &[0, 7])),
        (UserRequest::Id(1000), identity(1000, 1000, &[100, 1000, 50000])),
        (UserRequest::Id(4242), identity(4242, 0, &[0])),
        (UserRequest::Name("www-data".to_owned()), identity(33, 33, &[33])),
        (UserRequest::Name("4242".to_owned()), identity(4242, 0, &[0])),
    ] {
        assert_eq!(resolved(&asked(user.clone()), "www-data:users"), Ok(expected), "{user:?}");
    }
    for name in ["nobody-here", "", "root:root", "-1", "0:0", "root\n"] {
        assert!(resolved(&asked(UserRequest::Name(name.to_owned())), "").is_err(), "{name:?}");
    }
}

#[test]
fn a_group_needs_a_user() {
    let alone = ContainerSecurity { group: Some(5), ..asked(UserRequest::Image) };
    resolved(&alone, "1000").unwrap_err();
    let both = ContainerSecurity { group: Some(5), ..asked(UserRequest::Id(1000)) };
    assert_eq!(resolved(&both, ""), Ok(identity(1000, 5, &[5, 100, 50000])));
}

#[test]
fn the_policy_decides_on_the_images_groups_and_the_primary_group_is_always_in() {
    let with = |policy, supplemental_groups: &[u32]| ContainerSecurity {
        groups_policy: policy,
        supplemental_groups: supplemental_groups.to_vec(),
        ..asked(UserRequest::Image)
    };
    for (security, expected) in [
        (with(GroupsPolicy::Merge, &[1234]), &[100, 1000, 1234, 50000][..]),
        (with(GroupsPolicy::Strict, &[1234]), &[1000, 1234]),
        (with(GroupsPolicy::Strict, &[]), &[1000]),
        (with(GroupsPolicy::Merge, &[1000, 50000, 9, 9]), &[9, 100, 1000, 50000]),
    ] {
        assert_eq!(resolved(&security, "1000").unwrap().groups, expected, "{security:?}");
    }
}

#[test]
fn an_image_without_account_files_has_numbers_only() {
    let none = Accounts::default();
    let found = resolve(&asked(UserRequest::Image), "1000:2000", &none).unwrap();
    assert_eq!(found.identity, identity(1000, 2000, &[2000]));
    assert_eq!(found.home, "/");
    assert!(resolve(&asked(UserRequest::Image), "root", &none).is_err());
}

#[test]
fn the_home_directory_is_the_accounts_if_it_is_one() {
    for (passwd, home) in [
        ("u:x:5:5::/home/u:/bin/sh", "/home/u"),
        ("u:x:5:5::relative:/bin/sh", "/"),
        ("u:x:5:5:::", "/"),
        ("u:x:5:5", "/"),
        ("u:x:5:5::/a\rb:", "/"),
    ] {
        let accounts = Accounts { passwd: Some(passwd), group: None };
        assert_eq!(
            resolve(&asked(UserRequest::Id(5)), "", &accounts).unwrap().home,
            home,
            "{passwd:?}"
        );
    }
}

#[test]
fn more_groups_than_the_kernel_takes_are_refused() {
    let group: String = (0..70_000).map(|id| format!("g{id}:x:{id}:root\n")).collect();
    let accounts = Accounts { passwd: Some(PASSWD), group: Some(&group) };
    assert!(resolve(&asked(UserRequest::Image), "", &accounts).is_err());
}
