//! Contents of the small files that a pod's containers share.
//!
//! Whatever goes into a line is checked not to hold another one.

use crate::refusal::Refusal;
use crate::spec::DnsConfig;
use std::net::IpAddr;

/// The longest host name of Linux (HOST_NAME_MAX).
const LONGEST_HOSTNAME: usize = 64;

/// Checks a host name that is asked for.
///
/// # Errors
/// Invalid, when it is none.
pub fn check_hostname(hostname: &str) -> Result<(), Refusal> {
    let legal =
        (1..=LONGEST_HOSTNAME).contains(&hostname.len()) && hostname.bytes().all(is_of_hostname);
    if legal {
        return Ok(());
    }
    let shown: String = hostname.chars().take(128).collect();
    Err(Refusal::invalid(
        "hostname",
        format!("{shown:?} is not 1 to 64 letters, digits, '-', '_' and '.'"),
    ))
}

/// A pod's name cut to what a host may be called; a name with nothing in it that may stand there becomes `pod`.
#[must_use]
pub fn hostname_from(name: &str) -> String {
    let kept: String =
        name.bytes().filter(|byte| is_of_hostname(*byte)).take(63).map(char::from).collect();
    let trimmed = kept.trim_matches(['-', '.', '_']);
    if trimmed.is_empty() { "pod".to_owned() } else { trimmed.to_owned() }
}

/// The content of /etc/hostname.
#[must_use]
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// The content of /etc/resolv.conf.
///
/// # Errors
/// Invalid, when an entry would break its line.
pub fn resolv_conf(dns: &DnsConfig) -> Result<String, Refusal> {
    for (field, entries) in [("searches", &dns.searches), ("options", &dns.options)] {
        if let Some(entry) = entries.iter().find(|entry| !is_word(entry)) {
            return Err(malformed(field, entry));
        }
    }
    if let Some(server) = dns.servers.iter().find(|server| !is_server(server)) {
        return Err(malformed("servers", server));
    }
    let mut lines = Vec::new();
    if !dns.searches.is_empty() {
        lines.push(format!("search {}\n", dns.searches.join(" ")));
    }
    lines.extend(dns.servers.iter().map(|server| format!("nameserver {server}\n")));
    if !dns.options.is_empty() {
        lines.push(format!("options {}\n", dns.options.join(" ")));
    }
    Ok(lines.concat())
}

/// The content of /etc/hosts for a pod with addresses of its own, unless the client mounts one over it.
#[must_use]
pub fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

fn malformed(field: &str, entry: &str) -> Refusal {
    let shown: String = entry.chars().take(256).collect();
    Refusal::invalid(
        format!("dns_config.{field}"),
        format!("{shown:?} cannot stand in resolv.conf"),
    )
}

fn is_word(entry: &str) -> bool {
    !entry.is_empty()
        && entry.len() <= 1024
        && !entry.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == ';')
}

/// An address; one of IPv6 may have a zone.
fn is_server(entry: &str) -> bool {
    let address = entry.split_once('%').map_or(entry, |(address, _)| address);
    is_word(entry) && address.parse::<IpAddr>().is_ok()
}

fn is_of_hostname(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_host_name_is_called_what_it_is_named() {
        for (name, expected) in [
            ("web-0", "web-0"),
            ("PodSandbox-for-test_1.2", "PodSandbox-for-test_1.2"),
            ("a b/c\n", "abc"),
            ("--..", "pod"),
        ] {
            assert_eq!(hostname_from(name), expected, "{name:?}");
            assert_eq!(check_hostname(expected), Ok(()));
        }
        assert_eq!(hostname_from(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn a_host_name_is_one_word() {
        for name in ["", "a\nb", "a b", "a:b", "a\\nb", "a/b", "é", "a\0", &"x".repeat(65)] {
            assert!(check_hostname(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_resolver_has_the_lines_asked_for() {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let dns = DnsConfig {
            servers: strings(&["10.96.0.10", "fe80::1%eth0"]),
            searches: strings(&["default.svc.cluster.local", "cluster.local"]),
            options: strings(&["ndots:5", "edns0"]),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap(),
            "search default.svc.cluster.local cluster.local\nnameserver 10.96.0.10\n\
             nameserver fe80::1%eth0\noptions ndots:5 edns0\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()).unwrap(), "");
    }

    #[test]
    fn no_entry_of_the_resolver_begins_another_line() {
        for entry in ["a\nnameserver 192.0.2.1", "a b", "", "a\r", "#", "a;b", "a\u{2028}b"] {
            for dns in [
                DnsConfig { servers: vec![entry.to_owned()], ..DnsConfig::default() },
                DnsConfig { searches: vec![entry.to_owned()], ..DnsConfig::default() },
                DnsConfig { options: vec![entry.to_owned()], ..DnsConfig::default() },
            ] {
                assert!(resolv_conf(&dns).is_err(), "{dns:?}");
            }
        }
        let named = DnsConfig { servers: vec!["dns.example".to_owned()], ..DnsConfig::default() };
        resolv_conf(&named).unwrap_err();
    }

    #[test]
    fn the_hosts_file_names_the_pod_by_each_address() {
        let addresses = ["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()];
        let text = hosts("web-0", &addresses);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("\n10.1.2.3\tweb-0\nfd00::3\tweb-0\n"));
    }
}
