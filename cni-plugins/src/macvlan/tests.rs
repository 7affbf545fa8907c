use super::*;
use crate::plugin::Command;
use crate::spec::Version;
use crate::testing::{Host, Pod, accept, on_new_host};

const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"lan","type":"macvlan","master":"wire0",
    "ipam":{"type":"host-local",DATA,"subnet":"10.5.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#;

/// A bridge stands for the wire that the devices ride on. It carries something as long as someone is at its other end.
fn lay_wire(host: &mut Host) -> Pod {
    let other_end = Pod::new("other-end");
    let config =
        r#"{"cniVersion":"1.1.0","name":"wire","type":"bridge","bridge":"wire0","mtu":1500}"#;
    host.run(Command::Add, "bridge", &other_end, config).unwrap();
    other_end
}

#[test]
fn containers_on_one_wire_reach_each_other_and_leave_nothing() {
    on_new_host(|host| {
        let _other_end = lay_wire(host);
        let pods = [Pod::new("c1"), Pod::new("c2")];
        let results =
            pods.each_ref().map(|pod| host.run(Command::Add, "macvlan", pod, CONFIG).unwrap());
        let to = std::net::SocketAddr::new(results[1].ips[0].address.addr(), 80);
        let listener = pods[1].listen(&to.to_string());
        pods[0].connect(to).unwrap();
        assert_eq!(accept(&listener), results[0].ips[0].address.addr());
        assert_eq!(
            (results[0].interfaces[0].name.as_str(), results[0].interfaces[0].mtu),
            ("eth0", Some(1500))
        );
        let previous = format!(r#"{{"prevResult":{},"#, results[0].to_json(Version::LATEST));
        host.run(Command::Check, "macvlan", &pods[0], &CONFIG.replacen('{', &previous, 1)).unwrap();
        for _ in 0..2 {
            host.run(Command::Delete, "macvlan", &pods[0], CONFIG).unwrap();
        }
        assert_eq!(host.leases("lan"), 1);
        let gone = pods[0].within(|| Links::open().unwrap().by_name("eth0").unwrap());
        assert_eq!(gone, None);
    });
}

#[test]
fn the_master_is_found_by_the_default_route_of_either_family() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        let without = CONFIG.replace(r#""master":"wire0","#, "");
        assert_eq!(host.run(Command::Add, "macvlan", &pod, &without).unwrap_err().code, 7);
        assert_eq!(host.leases("lan"), 0);
        let _other_end = lay_wire(host);
        let links = host.context.links().unwrap();
        let wire = links.require("wire0").unwrap();
        let default =
            crate::spec::result::Route::new("::/0".parse().unwrap(), "fd00::1".parse().ok());
        links.configure(&wire, &["fd00::2/64".parse().unwrap()], &[default.into()]).unwrap();
        host.run(Command::Add, "macvlan", &pod, &without).unwrap();
    });
}

#[test]
fn a_master_inside_the_container_is_used_when_asked_for() {
    on_new_host(|host| {
        let pod = Pod::new("c1");
        pod.within(|| {
            Links::open().unwrap().create_bridge("wire0", [2, 0, 0, 0, 0, 9], None).unwrap()
        });
        host.run(Command::Add, "macvlan", &pod, CONFIG).unwrap_err();
        let inside =
            CONFIG.replacen('{', r#"{"linkInContainer":true,"mac":"02:00:00:00:00:05","#, 1);
        let result = host.run(Command::Add, "macvlan", &pod, &inside).unwrap();
        assert_eq!(result.interfaces[0].mac, "02:00:00:00:00:05");
    });
}

#[test]
fn modes_and_sizes_that_can_not_be_are_refused_and_leave_nothing() {
    on_new_host(|host| {
        let _other_end = lay_wire(host);
        let pod = Pod::new("c1");
        for key in [r#""mode":"x""#, r#""mtu":9000"#, r#""mtu":-1"#, r#""mac":"x""#] {
            let config = CONFIG.replacen('{', &format!("{{{key},"), 1);
            assert_eq!(
                host.run(Command::Add, "macvlan", &pod, &config).unwrap_err().code,
                7,
                "{key}"
            );
            assert_eq!(host.leases("lan"), 0, "{key}");
        }
        for mode in ["bridge", "private", "vepa", "passthru"] {
            let config = CONFIG.replacen('{', &format!(r#"{{"mode":"{mode}","mtu":1400,"#), 1);
            host.run(Command::Add, "macvlan", &pod, &config).unwrap();
            host.run(Command::Delete, "macvlan", &pod, &config).unwrap();
        }
    });
}
