use serde_json::{Value, json};

use super::*;

fn full() -> Result {
    Result {
        interfaces: vec![
            Interface {
                name: "cni0".into(),
                mac: "02:00:00:00:00:01".into(),
                mtu: Some(1500),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:02".into(),
                mtu: Some(1500),
                sandbox: Some("/run/netns/x".into()),
                socket_path: Some("/s".into()),
                pci_id: Some("0000:00:01.0".into()),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: "10.1.0.5/16".parse().unwrap(),
                gateway: Some("10.1.0.1".parse().unwrap()),
            },
            IpConfig { interface: Some(1), address: "fd00::5/64".parse().unwrap(), gateway: None },
            IpConfig { interface: Some(1), address: "10.2.0.5/16".parse().unwrap(), gateway: None },
        ],
        routes: vec![
            Route {
                mtu: Some(1400),
                advmss: Some(1300),
                priority: Some(10),
                table: Some(100),
                scope: Some(253),
                ..Route::new("0.0.0.0/0".parse().unwrap(), Some("10.1.0.1".parse().unwrap()))
            },
            Route::new("::/0".parse().unwrap(), None),
        ],
        dns: Dns { nameservers: vec!["10.0.0.10".into()], ..Dns::default() },
    }
}

fn written(version: Version) -> Value {
    serde_json::from_str(&full().to_json(version)).unwrap()
}

#[test]
fn the_newest_version_carries_everything_and_reads_back_the_same() {
    assert_eq!(Result::parse(&full().to_json(Version::V1_1_0), Version::V0_1_0).unwrap(), full());
}

#[test]
fn version_one_drops_what_came_with_one_point_one() {
    let json = written(Version::V1_0_0);
    assert_eq!(
        json["interfaces"][1],
        json!({"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/x"})
    );
    assert_eq!(json["routes"][0], json!({"dst":"0.0.0.0/0","gw":"10.1.0.1"}));
    assert_eq!(json["ips"][0], json!({"interface":1,"address":"10.1.0.5/16","gateway":"10.1.0.1"}));
}

#[test]
fn before_version_one_an_address_says_its_family() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let json = written(version);
        assert_eq!(json["cniVersion"], version.as_str());
        assert_eq!(json["ips"][0]["version"], "4");
        assert_eq!(json["ips"][1]["version"], "6");
    }
}

#[test]
fn the_oldest_versions_take_the_first_address_of_each_family() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(
            written(version),
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]},
                "ip6": {"ip":"fd00::5/64","routes":[{"dst":"::/0"}]},
                "dns": {"nameservers":["10.0.0.10"]},
            })
        );
    }
}

#[test]
fn every_version_reads_back_with_the_addresses_it_can_express() {
    for version in Version::ALL {
        let back = Result::parse(&full().to_json(version), Version::LATEST).unwrap();
        let addresses = if version <= Version::V0_2_0 { 2 } else { 3 };
        assert_eq!(back.ips.len(), addresses, "{version}");
        assert_eq!(back.dns, full().dns, "{version}");
        assert_eq!(back.routes.len(), 2, "{version}");
    }
}

#[test]
fn a_result_without_a_version_is_read_as_the_configuration_was_written() {
    let legacy = r#"{"ip4":{"ip":"10.1.0.5/16"}}"#;
    assert_eq!(Result::parse(legacy, Version::V0_2_0).unwrap().ips.len(), 1);
    let modern = r#"{"ips":[{"address":"10.1.0.5/16"}]}"#;
    assert_eq!(Result::parse(modern, Version::V1_0_0).unwrap().ips.len(), 1);
}

#[test]
fn an_interface_index_that_points_nowhere_is_unknown() {
    let json = r#"{"cniVersion":"0.4.0","interfaces":[{"name":"a"}],
        "ips":[{"address":"10.0.0.1/8","interface":-1},{"address":"10.0.0.2/8","interface":7},
               {"address":"10.0.0.3/8","interface":0},{"address":"10.0.0.4/8"}]}"#;
    let found: Vec<_> =
        Result::parse(json, Version::LATEST).unwrap().ips.iter().map(|ip| ip.interface).collect();
    assert_eq!(found, [None, None, Some(0), None]);
}

#[test]
fn nothing_and_null_are_an_empty_result() {
    for text in ["", " \n", "null", "{}"] {
        assert_eq!(Result::parse(text, Version::V1_0_0).unwrap(), Result::default(), "{text:?}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&Result::default().to_json(Version::V1_1_0)).unwrap(),
        json!({"cniVersion":"1.1.0"})
    );
}

#[test]
fn nulls_and_empty_texts_inside_are_absent() {
    let json = r#"{"cniVersion":"1.0.0","interfaces":null,"ips":[{"address":"10.0.0.1/8","gateway":""}],
        "routes":[{"dst":"0.0.0.0/0","gw":null}],"dns":{"search":null}}"#;
    let result = Result::parse(json, Version::LATEST).unwrap();
    assert_eq!(result.ips[0].gateway, None);
    assert_eq!(result.routes[0].gw, None);
    assert!(result.dns.is_empty());
}

#[test]
fn garbage_is_refused_with_code_six() {
    for text in ["{", "[]", r#"{"cniVersion":"1.0.0","ips":[{"address":"x"}]}"#, "hello"] {
        assert_eq!(Result::parse(text, Version::V1_0_0).unwrap_err().code, 6, "{text}");
    }
}
