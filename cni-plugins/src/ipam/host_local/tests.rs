use std::path::Path;

use super::*;
use crate::plugin::{Command, run};
use crate::testing::request;

fn config(root: &Path, ipam: &str, rest: &str) -> String {
    let root = root.display();
    format!(
        r#"{{"cniVersion":"1.1.0","name":"net","type":"x",
            "ipam":{{"type":"host-local","dataDir":"{root}",{ipam}}}{rest}}}"#
    )
}

const SMALL: &str = r#""subnet":"10.0.0.0/29""#;

fn add(id: &str, config: &str) -> Result<Vec<String>, Error> {
    let result =
        run(Command::Add, "host-local", &request(id, config), &mut Context::new())?.unwrap();
    Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
}

#[test]
fn addresses_are_given_out_in_turn_until_none_is_left_and_again_after_release() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), SMALL, "");
    for number in 2..=6 {
        assert_eq!(add(&format!("c{number}"), &config).unwrap(), [format!("10.0.0.{number}/29")]);
    }
    let error = add("c7", &config).unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str()),
        (102, "range set 0 of network \"net\" has no free address")
    );
    let status = |config: &str| {
        run(Command::Status, "host-local", &request("", config), &mut Context::new())
    };
    assert_eq!(status(&config).unwrap_err().code, 50);
    run(Command::Delete, "host-local", &request("c3", &config), &mut Context::new()).unwrap();
    run(Command::Delete, "host-local", &request("c3", &config), &mut Context::new()).unwrap();
    status(&config).unwrap();
    assert_eq!(add("c7", &config).unwrap(), ["10.0.0.3/29"]);
}

#[test]
fn a_freed_address_is_the_last_to_be_given_out_again() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), SMALL, "");
    add("c1", &config).unwrap();
    run(Command::Delete, "host-local", &request("c1", &config), &mut Context::new()).unwrap();
    assert_eq!(add("c2", &config).unwrap(), ["10.0.0.3/29"]);
}

#[test]
fn the_same_interface_gets_no_second_address() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), SMALL, "");
    add("c1", &config).unwrap();
    assert_eq!(add("c1", &config).unwrap_err().code, 102);
    assert_eq!(store::names(&root.path().join("net")).unwrap().len(), 1);
}

#[test]
fn each_range_set_gives_one_address_and_all_are_given_back_if_one_can_not() {
    let root = tempfile::tempdir().unwrap();
    let both = r#""ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/126","rangeStart":"fd00::2","rangeEnd":"fd00::2"}]]"#;
    let config = config(root.path(), both, "");
    assert_eq!(add("c1", &config).unwrap(), ["10.0.0.2/24", "fd00::2/126"]);
    assert_eq!(add("c2", &config).unwrap_err().code, 102);
    assert_eq!(
        store::names(&root.path().join("net")).unwrap().len(),
        2,
        "nothing of the failed one is left"
    );
}

#[test]
fn a_requested_address_is_given_if_it_is_free_and_in_a_range() {
    let root = tempfile::tempdir().unwrap();
    let wish = |address: &str| {
        config(root.path(), SMALL, &format!(r#","runtimeConfig":{{"ips":["{address}"]}}"#))
    };
    assert_eq!(add("c1", &wish("10.0.0.5/29")).unwrap(), ["10.0.0.5/29"]);
    for (address, reason) in
        [("10.0.0.5", "is taken"), ("10.0.0.1", "is the gateway"), ("10.9.9.9", "in no range")]
    {
        let error = add("c2", &wish(address)).unwrap_err();
        assert!(error.msg.contains(reason), "{error}");
    }
    let by_args = config(root.path(), SMALL, "");
    let mut request = request("c3", &by_args);
    request.args = "IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.0.0.6".into();
    let result = run(Command::Add, "host-local", &request, &mut Context::new()).unwrap().unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.6/29");
}

#[test]
fn collection_frees_what_no_valid_attachment_has() {
    let root = tempfile::tempdir().unwrap();
    let plain = config(root.path(), SMALL, "");
    for id in ["c1", "c2", "c3"] {
        add(id, &plain).unwrap();
    }
    let valid = r#","cni.dev/valid-attachments":[{"containerID":"c2","ifname":"eth0"},{"containerID":"c3","ifname":"eth9"}]"#;
    let request = request("", &config(root.path(), SMALL, valid));
    run(Command::Collect, "host-local", &request, &mut Context::new()).unwrap();
    assert_eq!(
        store::names(&root.path().join("net")).unwrap(),
        ["10.0.0.3".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn fifty_processes_at_once_get_fifty_addresses() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), r#""subnet":"10.0.0.0/24""#, "");
    let mut addresses = std::thread::scope(|scope| {
        let config = &config;
        let threads: Vec<_> =
            (0..50).map(|n| scope.spawn(move || add(&format!("c{n}"), config).unwrap())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50);
}

#[test]
fn a_warm_context_knows_thousands_of_leases_without_reading_them() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), r#""subnet":"10.0.0.0/16""#, "");
    let mut context = Context::new();
    for number in 0..300 {
        run(Command::Add, "host-local", &request(&format!("c{number}"), &config), &mut context)
            .unwrap();
    }
    for number in 0..300 {
        run(Command::Delete, "host-local", &request(&format!("c{number}"), &config), &mut context)
            .unwrap();
    }
    assert!(store::names(&root.path().join("net")).unwrap().is_empty());
}

#[test]
fn the_resolver_settings_are_read_from_a_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("resolv.conf");
    let text = "# c\nnameserver 10.0.0.53\nsearch a b\ndomain d\noptions ndots:5\n";
    std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
    let dns = read_resolv_conf(&path).unwrap();
    assert_eq!(
        (dns.nameservers, dns.search),
        (vec!["10.0.0.53".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!((dns.domain, dns.options), ("d".to_owned(), vec!["ndots:5".to_owned()]));
}
