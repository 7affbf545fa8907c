use std::net::IpAddr;

use super::*;
use crate::plugin::{Command, run};
use crate::spec::Version;
use crate::testing::{Host, Pod, accept, on_new_host};
use crate::{NetnsFate, sweep};

const DUAL: &str = r#"{"cniVersion":"1.1.0","name":"pods","type":"bridge","bridge":"cni0","isDefaultGateway":true,
    "ipMasq":true,"hairpinMode":true,
    "ipam":{"type":"host-local",DATA,"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#;
const PLAIN: &str = r#"{"cniVersion":"1.1.0","name":"pods","type":"bridge","isGateway":true,
    "ipam":{"type":"host-local",DATA,"subnet":"10.1.0.0/24"}}"#;
/// Another network on the same host, which stands for the world outside.
const OUTSIDE: &str = r#"{"cniVersion":"1.1.0","name":"outside","type":"bridge","bridge":"out0","isDefaultGateway":true,
    "ipam":{"type":"host-local",DATA,"ranges":[[{"subnet":"192.168.7.0/24"}],[{"subnet":"fd00:7::/64"}]]}}"#;

fn add(host: &mut Host, pod: &Pod, config: &str) -> CniResult {
    host.run(Command::Add, "bridge", pod, config).unwrap()
}

#[test]
fn pods_reach_each_other_and_the_host_by_both_families_at_once() {
    on_new_host(|host| {
        let pods = [Pod::new("c1"), Pod::new("c2")];
        let results = pods.each_ref().map(|pod| add(host, pod, DUAL));
        for place in 0..2 {
            let to = results[1].ips[place].address.addr();
            let listener = pods[1].listen(&format!("{}", std::net::SocketAddr::new(to, 80)));
            pods[0].connect(std::net::SocketAddr::new(to, 80)).unwrap();
            assert_eq!(
                accept(&listener),
                results[0].ips[place].address.addr(),
                "no masquerade among pods"
            );
            let gateway = results[0].ips[place].gateway.unwrap();
            let listener = std::net::TcpListener::bind((gateway, 81)).unwrap();
            pods[0].connect(std::net::SocketAddr::new(gateway, 81)).unwrap();
            assert_eq!(accept(&listener), results[0].ips[place].address.addr());
        }
    });
}

#[test]
fn the_result_tells_what_was_made_and_check_agrees_until_something_is_missing() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let result = add(host, &pod, DUAL);
        let names: Vec<&str> =
            result.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        assert_eq!((names[0], names[2], result.interfaces.len()), ("cni0", "eth0", 3));
        assert_eq!(host.links_of("veth"), [names[1]]);
        assert!(result.interfaces[2].sandbox.is_some() && result.interfaces[0].sandbox.is_none());
        assert!(result.ips.iter().all(|ip| ip.interface == Some(2)));
        assert_eq!(result.routes.len(), 2);
        let previous = result.to_json(Version::LATEST);
        let config = DUAL.replacen('{', &format!(r#"{{"prevResult":{previous},"#), 1);
        host.run(Command::Check, "bridge", &pod, &config).unwrap();
        pod.within(|| {
            let mut links = link::Links::open().unwrap();
            let link = links.require("eth0").unwrap();
            links.remove_address(&link, "10.1.0.2/24".parse().unwrap()).unwrap();
        });
        let error = host.run(Command::Check, "bridge", &pod, &config).unwrap_err();
        assert_eq!(error.msg, "address 10.1.0.2/24 is gone from \"eth0\"");
    });
}

#[test]
fn pods_are_masqueraded_to_the_outside_and_only_if_asked() {
    on_new_host(|host| {
        let (hidden, client) = (Pod::new("c1"), Pod::new("c2"));
        let inside = add(host, &hidden, DUAL);
        let outside = add(host, &client, OUTSIDE);
        for place in 0..2 {
            let to = std::net::SocketAddr::new(outside.ips[place].address.addr(), 80);
            let listener = client.listen(&to.to_string());
            hidden.connect(to).unwrap();
            assert_eq!(
                accept(&listener),
                outside.ips[place].gateway.unwrap(),
                "the host's own address"
            );
            let back = std::net::SocketAddr::new(inside.ips[place].address.addr(), 80);
            let listener = hidden.listen(&back.to_string());
            client.connect(back).unwrap();
            assert_eq!(
                accept(&listener),
                outside.ips[place].address.addr(),
                "the other network is not masqueraded"
            );
        }
    });
}

#[test]
fn delete_leaves_nothing_and_can_be_repeated_without_the_namespace() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        add(host, &pod, DUAL);
        assert_eq!(
            (host.leases("pods"), sweep::owned_elements(&mut host.context).unwrap().len()),
            (2, 4)
        );
        host.run(Command::Delete, "bridge", &pod, DUAL).unwrap();
        assert_eq!(
            (host.leases("pods"), sweep::owned_elements(&mut host.context).unwrap().len()),
            (0, 0)
        );
        assert!(host.links_of("veth").is_empty());
        host.run(Command::Delete, "bridge", &pod, DUAL).unwrap();
        for netns in [None, Some("/no/such/path".into()), Some("/proc/self/status".into())] {
            let request = crate::plugin::Request { netns, ..pod.request(&host.config(DUAL)) };
            run(Command::Delete, "bridge", &request, &mut host.context).unwrap();
        }
    });
}

#[test]
fn delete_without_a_namespace_finds_the_link_by_its_name() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        add(host, &pod, PLAIN);
        let request = crate::plugin::Request { netns: None, ..pod.request(&host.config(PLAIN)) };
        run(Command::Delete, "bridge", &request, &mut host.context).unwrap();
        assert!(host.links_of("veth").is_empty());
    });
}

#[test]
fn delete_leaves_the_link_to_a_namespace_that_dies() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        add(host, &pod, DUAL);
        host.context.netns_fate = NetnsFate::Dies;
        host.run(Command::Delete, "bridge", &pod, DUAL).unwrap();
        assert_eq!((host.links_of("veth").len(), host.leases("pods")), (1, 0));
        drop(pod);
    });
}

#[test]
fn fifty_pods_attach_at_the_same_time() {
    on_new_host(|host| {
        let pods: Vec<Pod> = (0..50).map(|number| Pod::new(&format!("c{number}"))).collect();
        let config = host.config(DUAL);
        let mut addresses: Vec<IpAddr> = std::thread::scope(|scope| {
            let config = &config;
            let attach = |pod| {
                scope.spawn(move || {
                    let mut context = Context::for_instance("t");
                    let request = Pod::request(pod, config);
                    let result =
                        run(Command::Add, "bridge", &request, &mut context).unwrap().unwrap();
                    result.ips[0].address.addr()
                })
            };
            let threads: Vec<_> = pods.iter().map(attach).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        addresses.sort();
        addresses.dedup();
        assert_eq!(
            (addresses.len(), host.links_of("veth").len(), host.links_of("bridge").len()),
            (50, 50, 1)
        );
        assert_eq!(host.leases("pods"), 100);
    });
}

#[test]
fn collection_removes_what_is_not_valid_of_this_network_only() {
    on_new_host(|host| {
        let (kept, stray, other) = (Pod::new("c1"), Pod::new("c2"), Pod::new("c3"));
        add(host, &kept, DUAL);
        add(host, &stray, DUAL);
        add(host, &other, OUTSIDE);
        let valid = r#"{"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}],"#;
        host.run(Command::Collect, "bridge", &kept, &DUAL.replacen('{', valid, 1)).unwrap();
        assert_eq!(
            (host.leases("pods"), host.leases("outside"), host.links_of("veth").len()),
            (2, 2, 2)
        );
        assert_eq!(sweep::owned_elements(&mut host.context).unwrap().len(), 4);
        let owners: Vec<String> = sweep::owned_links(&mut host.context)
            .unwrap()
            .into_iter()
            .map(|(_, owner)| owner.to_string())
            .collect();
        assert!(
            owners.contains(&"c1/eth0@pods".into()) && owners.contains(&"c3/eth0@outside".into()),
            "{owners:?}"
        );
    });
}

#[test]
fn sweeping_removes_all_of_this_instance_but_what_is_kept() {
    on_new_host(|host| {
        let pods = [Pod::new("c1"), Pod::new("c2"), Pod::new("c3")];
        add(host, &pods[0], DUAL);
        add(host, &pods[1], DUAL);
        let foreign = pods[2].request(&host.config(DUAL));
        run(Command::Add, "bridge", &foreign, &mut Context::for_instance("other")).unwrap();
        let swept = sweep::sweep(&mut host.context, |owner| owner.container_id == "c1").unwrap();
        assert_eq!(
            (swept.links.len(), swept.elements.len(), host.links_of("veth").len()),
            (1, 4, 2)
        );
        sweep::remove_all(&mut host.context).unwrap();
        sweep::remove_all(&mut host.context).unwrap();
        assert_eq!(host.links_of("veth").len(), 1, "the other instance's");
    });
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let bad_route = PLAIN
            .replace(r#""subnet""#, r#""routes":[{"dst":"1.0.0.0/8","gw":"9.9.9.9"}],"subnet""#);
        let error = host.run(Command::Add, "bridge", &pod, &bad_route).unwrap_err();
        assert_eq!(error.msg, "failed to add route 1.0.0.0/8 via 9.9.9.9");
        assert_eq!((host.links_of("veth").len(), host.leases("pods")), (0, 0));
        add(host, &pod, PLAIN);
    });
}

#[test]
fn an_interface_that_exists_is_not_touched_by_a_second_attachment() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        add(host, &pod, DUAL);
        host.run(Command::Add, "bridge", &pod, DUAL).unwrap_err();
        assert_eq!((host.links_of("veth").len(), host.leases("pods")), (1, 2));
        // The same name in the same namespace, but for another attachment.
        let twin = crate::plugin::Request {
            container_id: "c2".into(),
            ..pod.request(&host.config(PLAIN))
        };
        run(Command::Add, "bridge", &twin, &mut host.context).unwrap_err();
        assert_eq!((host.links_of("veth").len(), host.leases("pods")), (1, 2));
    });
}

#[test]
fn addresses_of_the_bridge_are_kept_unless_forced() {
    on_new_host(|host| {
        let pods = [Pod::new("c1"), Pod::new("c2"), Pod::new("c3")];
        add(host, &pods[0], PLAIN);
        let moved = PLAIN.replace("10.1.0.0/24", "10.2.0.0/24");
        let error = host.run(Command::Add, "bridge", &pods[1], &moved).unwrap_err();
        assert_eq!(error.msg, "bridge \"cni0\" has address 10.1.0.1/24 and not 10.2.0.1/24");
        add(host, &pods[2], &moved.replacen('{', r#"{"forceAddress":true,"#, 1));
        assert_eq!(host.ip("cni0").to_string(), "10.2.0.1");
    });
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        for (key, code) in [
            (r#""vlan":100"#, 2),
            (r#""vlanTrunk":[{"id":5}]"#, 2),
            (r#""macspoofchk":true"#, 2),
            (r#""hairpinMode":true,"promiscMode":true"#, 7),
            (r#""disableContainerInterface":true"#, 7),
            (r#""bridge":"a/b""#, 7),
            (r#""mac":"xx""#, 7),
            (r#""bridge":"lo""#, 7),
        ] {
            let config = PLAIN.replacen('{', &format!("{{{key},"), 1);
            assert_eq!(
                host.run(Command::Add, "bridge", &pod, &config).unwrap_err().code,
                code,
                "{key}"
            );
            if !key.contains("mac\"") {
                host.run(Command::Delete, "bridge", &pod, &config).unwrap();
            }
        }
        let off = PLAIN.replacen('{', r#"{"vlan":0,"vlanTrunk":[],"macspoofchk":false,"#, 1);
        add(host, &pod, &off);
    });
}

#[test]
fn a_hardware_address_comes_from_the_runtime_before_the_arguments() {
    on_new_host(|host| {
        let cases = [
            (r#""runtimeConfig":{"mac":"02:00:00:00:00:01"}"#, "02:00:00:00:00:01"),
            (r#""args":{"cni":{"mac":"02:00:00:00:00:02"}}"#, "02:00:00:00:00:02"),
            (r#""x":1"#, "02:00:00:00:00:03"),
        ];
        for (number, (key, mac)) in cases.into_iter().enumerate() {
            let pod = Pod::new(&format!("c{number}"));
            let config = host.config(&PLAIN.replacen('{', &format!("{{{key},"), 1));
            let request = crate::plugin::Request {
                args: "MAC=02:00:00:00:00:03".into(),
                ..pod.request(&config)
            };
            let result = run(Command::Add, "bridge", &request, &mut host.context).unwrap().unwrap();
            assert_eq!(result.interfaces[2].mac, mac);
        }
    });
}

#[test]
fn isolated_ports_reach_the_gateway_and_not_each_other() {
    on_new_host(|host| {
        let config = PLAIN.replacen('{', r#"{"portIsolation":true,"#, 1);
        let pods = [Pod::new("c1"), Pod::new("c2")];
        let results = pods.each_ref().map(|pod| add(host, pod, &config));
        let peer = std::net::SocketAddr::new(results[1].ips[0].address.addr(), 80);
        let _listener = pods[1].listen(&peer.to_string());
        pods[0].connect(peer).unwrap_err();
        let gateway = std::net::SocketAddr::new(results[0].ips[0].gateway.unwrap(), 81);
        let listener = std::net::TcpListener::bind(gateway).unwrap();
        pods[0].connect(gateway).unwrap();
        accept(&listener);
    });
}

#[test]
fn the_mtu_is_the_configured_one_on_both_sides() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let result = add(host, &pod, &PLAIN.replacen('{', r#"{"mtu":1400,"#, 1));
        assert_eq!(
            result.interfaces.iter().map(|interface| interface.mtu).collect::<Vec<_>>(),
            [Some(1400); 3]
        );
        let mtu = pod.within(|| link::Links::open().unwrap().require("eth0").unwrap().mtu);
        assert_eq!(mtu, 1400);
    });
}

#[test]
fn a_network_without_addresses_is_a_plain_cable() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let result = add(host, &pod, r#"{"cniVersion":"1.0.0","name":"l2","type":"bridge"}"#);
        assert!(result.ips.is_empty());
        let up = pod.within(|| link::Links::open().unwrap().require("eth0").unwrap().has(Link::UP));
        assert!(up);
    });
}
