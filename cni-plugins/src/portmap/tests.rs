use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::*;
use crate::plugin::Command;
use crate::spec::Version;
use crate::sweep;
use crate::testing::{Host, Pod, accept, connect, on_new_host};

const NETWORK: &str = r#"{"cniVersion":"1.1.0","name":"pods","type":"bridge","bridge":"cni0","isDefaultGateway":true,
    "hairpinMode":true,
    "ipam":{"type":"host-local",DATA,"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#;
const OUTSIDE: &str = r#"{"cniVersion":"1.1.0","name":"outside","type":"bridge","bridge":"out0","isDefaultGateway":true,
    "ipam":{"type":"host-local",DATA,"ranges":[[{"subnet":"192.168.7.0/24"}],[{"subnet":"fd00:7::/64"}]]}}"#;
const TCP: &str = r#"{"hostPort":8080,"containerPort":80,"protocol":"tcp"}"#;

fn config(result: &CniResult, mappings: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.1.0","name":"pods","type":"portmap","runtimeConfig":{{"portMappings":[{mappings}]}},
            "prevResult":{}}}"#,
        result.to_json(Version::LATEST)
    )
}

fn attach(host: &mut Host, id: &str) -> (Pod, CniResult) {
    let pod = Pod::new(id);
    let result = host.run(Command::Add, "bridge", &pod, NETWORK).unwrap();
    (pod, result)
}

fn publish(
    host: &mut Host,
    (pod, result): &(Pod, CniResult),
    mappings: &str,
) -> Result<CniResult, Error> {
    host.run(Command::Add, "portmap", pod, &config(result, mappings))
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    reach_from_everywhere("1");
}

#[test]
fn a_published_port_is_reached_from_everywhere_if_the_rules_see_no_bridged_packets() {
    reach_from_everywhere("0");
}

fn reach_from_everywhere(is_filtered: &str) {
    on_new_host(|host| {
        for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            // Without that module, bridged packets are never seen.
            if let Ok(mut file) = std::fs::File::create(format!("/proc/sys/net/bridge/{setting}")) {
                std::io::Write::write_all(&mut file, is_filtered.as_bytes()).unwrap();
            }
        }
        let web = attach(host, "web");
        let neighbour = attach(host, "neighbour");
        let client = Pod::new("client");
        let outside = host.run(Command::Add, "bridge", &client, OUTSIDE).unwrap();
        publish(host, &web, TCP).unwrap();
        let listener = web.0.listen("[::]:80");
        let pod = |place: usize| web.1.ips[place].address.addr();
        for (place, loopback) in [(0, Some("127.0.0.1")), (1, None)] {
            let host_address = SocketAddr::new(web.1.ips[place].gateway.unwrap(), 8080);
            let far_address = SocketAddr::new(outside.ips[place].gateway.unwrap(), 8080);
            client.connect(far_address).unwrap();
            let from = accept(&listener).to_canonical();
            assert_eq!(from, outside.ips[place].address.addr(), "the client's own address is seen");
            neighbour.0.connect(host_address).unwrap();
            accept(&listener);
            web.0.connect(host_address).unwrap();
            accept(&listener);
            connect(host_address).unwrap();
            accept(&listener);
            if let Some(loopback) = loopback {
                connect(SocketAddr::new(loopback.parse().unwrap(), 8080)).unwrap();
                accept(&listener);
            }
            assert!(
                connect(SocketAddr::new(pod(place), 8080)).err().is_some(),
                "only the host's addresses are published"
            );
        }
    });
}

#[test]
fn an_unpublished_port_is_not_reached_and_nothing_is_left() {
    on_new_host(|host| {
        let web = attach(host, "web");
        publish(host, &web, TCP).unwrap();
        let setting = "/proc/sys/net/ipv4/conf/cni0/route_localnet";
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "1");
        let _listener = web.0.listen("0.0.0.0:80");
        connect("127.0.0.1:8080".parse().unwrap()).unwrap();
        let config = config(&web.1, TCP);
        host.run(Command::Delete, "portmap", &web.0, &config).unwrap();
        host.run(Command::Delete, "portmap", &web.0, &config).unwrap();
        assert!(connect("127.0.0.1:8080".parse().unwrap()).err().is_some());
        assert!(sweep::owned_elements(&mut host.context).unwrap().is_empty());
        assert_eq!(std::fs::read_to_string(setting).unwrap().trim(), "0");
    });
}

#[test]
fn a_taken_port_names_its_owner_and_changes_nothing() {
    on_new_host(|host| {
        let (first, second) = (attach(host, "first"), attach(host, "second"));
        publish(host, &first, TCP).unwrap();
        let before = sweep::owned_elements(&mut host.context).unwrap().len();
        let other = r#"{"hostPort":9090,"containerPort":80,"protocol":"tcp"}"#;
        let on_one = r#"{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"10.1.0.1"}"#;
        for mappings in [TCP.to_owned(), format!("{other},{TCP}"), on_one.to_owned()] {
            let error = publish(host, &second, &mappings).unwrap_err();
            assert_eq!(
                (error.code, error.msg.as_str()),
                (103, "host port 8080 is taken by first/eth0@pods")
            );
            assert_eq!(
                sweep::owned_elements(&mut host.context).unwrap().len(),
                before,
                "{mappings}"
            );
        }
        publish(host, &second, &TCP.replace("tcp", "udp")).unwrap();
    });
}

#[test]
fn a_port_on_one_address_is_on_no_other() {
    on_new_host(|host| {
        let web = attach(host, "web");
        let client = Pod::new("client");
        host.run(Command::Add, "bridge", &client, OUTSIDE).unwrap();
        publish(host, &web, &TCP.replace('{', r#"{"hostIP":"192.168.7.1","#)).unwrap();
        let listener = web.0.listen("0.0.0.0:80");
        for _ in 0..2 {
            client.connect("192.168.7.1:8080".parse().unwrap()).unwrap();
            accept(&listener);
            connect("192.168.7.1:8080".parse().unwrap()).unwrap();
            accept(&listener);
        }
        assert!(connect("127.0.0.1:8080".parse().unwrap()).err().is_some());
        assert!(connect("10.1.0.1:8080".parse().unwrap()).err().is_some());
        let second = attach(host, "second");
        let error = publish(host, &second, TCP).unwrap_err();
        assert_eq!(error.code, 103, "every address includes this one");
    });
}

#[test]
fn a_repeated_attempt_replaces_what_the_first_has_left() {
    on_new_host(|host| {
        let web = attach(host, "web");
        publish(host, &web, TCP).unwrap();
        publish(host, &web, TCP).unwrap();
        assert_eq!(sweep::owned_elements(&mut host.context).unwrap().len(), 6);
    });
}

#[test]
fn check_notices_a_missing_element_and_collection_a_stray_one() {
    on_new_host(|host| {
        let (web, stray) = (attach(host, "web"), attach(host, "stray"));
        publish(host, &web, TCP).unwrap();
        publish(host, &stray, &TCP.replace("8080", "8081")).unwrap();
        let config = config(&web.1, TCP);
        host.run(Command::Check, "portmap", &web.0, &config).unwrap();
        let valid = r#"{"cni.dev/valid-attachments":[{"containerID":"web","ifname":"eth0"}],"#;
        host.run(Command::Collect, "portmap", &web.0, &config.replacen('{', valid, 1)).unwrap();
        assert_eq!(sweep::owned_elements(&mut host.context).unwrap().len(), 6);
        host.run(Command::Check, "portmap", &web.0, &config).unwrap();
        host.run(Command::Collect, "portmap", &web.0, &config).unwrap();
        let error = host.run(Command::Check, "portmap", &web.0, &config).unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (101, "firewall element any4 tcp 8080 is gone")
        );
    });
}

#[test]
fn packets_of_a_known_flow_follow_the_port_to_its_next_owner() {
    on_new_host(|host| {
        let mapping = r#"{"hostPort":5353,"containerPort":53,"protocol":"udp"}"#;
        let client = Pod::new("client");
        host.run(Command::Add, "bridge", &client, OUTSIDE).unwrap();
        let sender = client.within(|| UdpSocket::bind("0.0.0.0:4444").unwrap());
        for id in ["first", "second"] {
            let pod = attach(host, id);
            let server = pod.0.within(|| UdpSocket::bind("0.0.0.0:53").unwrap());
            server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            publish(host, &pod, mapping).unwrap();
            sender.send_to(id.as_bytes(), "192.168.7.1:5353").unwrap();
            let mut text = [0; 16];
            let (length, _) = server.recv_from(&mut text).expect(id);
            assert_eq!(&text[..length], id.as_bytes());
            host.run(Command::Delete, "portmap", &pod.0, &config(&pod.1, mapping)).unwrap();
        }
    });
}

#[test]
fn two_thousand_ports_are_one_transaction() {
    on_new_host(|host| {
        let web = attach(host, "web");
        let mappings: Vec<String> = (0..2000)
            .map(|n| format!(r#"{{"hostPort":{},"containerPort":80}}"#, 10_000 + n))
            .collect();
        publish(host, &web, &mappings.join(",")).unwrap();
        let _listener = web.0.listen("0.0.0.0:80");
        connect("127.0.0.1:11999".parse().unwrap()).unwrap();
        host.run(Command::Delete, "portmap", &web.0, &config(&web.1, "")).unwrap();
        assert!(sweep::owned_elements(&mut host.context).unwrap().is_empty());
    });
}

#[test]
fn impossible_mappings_are_refused() {
    on_new_host(|host| {
        let web = attach(host, "web");
        for mapping in [
            r#"{"hostPort":0,"containerPort":80}"#,
            r#"{"hostPort":80,"containerPort":-1}"#,
            r#"{"hostPort":65536,"containerPort":80}"#,
            r#"{"hostPort":80,"containerPort":80,"protocol":"icmp"}"#,
            r#"{"hostPort":80,"containerPort":80,"hostIP":"localhost"}"#,
        ] {
            assert_eq!(publish(host, &web, mapping).unwrap_err().code, 7, "{mapping}");
        }
        assert!(publish(host, &web, "").unwrap() == web.1, "no ports, nothing to do");
    });
}
