use std::net::IpAddr;
use std::process::Command;

use super::*;
use crate::testing;

fn port(number: u16, owner: &str) -> Element {
    let pod: IpAddr = "10.1.0.2".parse().unwrap();
    let value = [KeyPart::Address(pod), KeyPart::Port(80)];
    Element::new(Set::Any4, &[KeyPart::Protocol(6), KeyPart::Port(number)], &value, owner)
}

#[test]
fn the_nft_program_reads_the_table_as_we_meant_it() {
    testing::in_new_netns(|| {
        let mut nft = Nft::open("t").unwrap();
        let addresses: [IpAddr; 2] = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let [v4, v6] = addresses.map(KeyPart::Address);
        let (tcp, bridge) = (KeyPart::Protocol(6), KeyPart::Interface("cni0"));
        nft.add(&[
            port(8080, "c/eth0@n"),
            Element::new(
                Set::Ip6,
                &[v6, tcp, KeyPart::Port(81)],
                &[v6, KeyPart::Port(80)],
                "c/eth0@n",
            ),
            Element::new(Set::Hairpin4, &[v4, bridge, bridge], &[], "c/eth0@n"),
            Element::new(Set::Within6, &[v6, bridge], &[], "c/eth0@n"),
            Element::new(Set::Masq4, &[v4], &[], "c/eth0@n"),
        ])
        .unwrap();
        let Ok(output) = Command::new("nft").args(["list", "ruleset"]).output() else {
            eprintln!("skipped because the nft program is not installed");
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        for line in [
            "table inet cringle-t {",
            "elements = { tcp . 8080 comment \"c/eth0@n\" : 10.1.0.2 . 80 }",
            "elements = { fd00::2 . tcp . 81 comment \"c/eth0@n\" : fd00::2 . 80 }",
            "elements = { 10.1.0.2 . \"cni0\" . \"cni0\" comment \"c/eth0@n\" }",
            "elements = { fd00::2 . \"cni0\" comment \"c/eth0@n\" }",
            "elements = { 10.1.0.2 comment \"c/eth0@n\" }",
            "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
            "fib daddr type local jump hostports",
            "ct status dnat ip saddr 127.0.0.0/8 masquerade",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    });
}

#[test]
fn an_element_has_one_owner_and_the_refusal_names_it() {
    testing::in_new_netns(|| {
        let mut nft = Nft::open("t").unwrap();
        nft.add(&[port(80, "first")]).unwrap();
        let error = nft.add(&[port(81, "second"), port(80, "second")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to add any4 tcp 80 to the firewall: it belongs to first"
        );
        let found = nft.elements(Set::Any4).unwrap();
        assert_eq!(found, [port(80, "first")], "all or nothing");
        assert_eq!((found[0].port(), found[0].protocol()), (Some(80), Some(6)));
        assert_eq!(found[0].target(), Some("10.1.0.2".parse().unwrap()));
    });
}

#[test]
fn removal_takes_what_is_wanted_and_finds_nothing_the_second_time() {
    testing::in_new_netns(|| {
        let mut nft = Nft::open("t").unwrap();
        assert!(nft.remove_where(&Set::ALL, |_| true).unwrap().is_empty(), "no table is no error");
        nft.add(
            &(1..=500)
                .map(|number| port(number, if number % 2 == 0 { "a" } else { "b" }))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        let is_of_a = |element: &Element| element.owner == "a";
        assert_eq!(nft.remove_where(&Set::ALL, is_of_a).unwrap().len(), 250);
        assert!(nft.remove_where(&Set::ALL, is_of_a).unwrap().is_empty());
        assert_eq!(nft.elements(Set::Any4).unwrap().len(), 250);
    });
}

#[test]
fn instances_have_tables_of_their_own() {
    testing::in_new_netns(|| {
        let (mut one, mut two) = (Nft::open("one").unwrap(), Nft::open("two").unwrap());
        one.add(&[port(80, "x")]).unwrap();
        two.add(&[port(80, "y")]).unwrap();
        one.remove_table().unwrap();
        one.remove_table().unwrap();
        assert!(one.elements(Set::Any4).unwrap().is_empty());
        assert_eq!(two.elements(Set::Any4).unwrap().len(), 1);
    });
}
