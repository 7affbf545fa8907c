//! Address ranges of pods.

use cringle_domain::refusal::Refusal;
use cringle_network::PodRange;
use std::net::IpAddr;

/// The ranges of a list with commas; empty if the list is.
pub(in crate::rpc) fn pod_ranges(list: &str) -> Result<Vec<PodRange>, Refusal> {
    let list = list.trim();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    list.split(',').map(str::trim).map(range).collect()
}

fn range(text: &str) -> Result<PodRange, Refusal> {
    let parsed = text.split_once('/').and_then(|(address, bits)| {
        let address: IpAddr = address.parse().ok()?;
        // As Go has it: digits alone.
        let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u32 = bits.parse().ok().filter(|_| digits)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        (bits <= width).then(|| PodRange { text: text.to_owned(), address })
    });
    parsed.ok_or_else(|| {
        let problem = format!("{text:?} is not a range of addresses, as 10.244.1.0/24");
        Refusal::invalid("runtime_config.network_config.pod_cidr", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_or_two_of_a_list_and_none_of_an_empty_one() {
        assert_eq!(pod_ranges("").unwrap(), []);
        assert_eq!(pod_ranges("10.244.1.0/24").unwrap()[0].text, "10.244.1.0/24");
        let two = pod_ranges("10.244.1.0/24, fd00:1::/64").unwrap();
        let texts: Vec<_> = two.iter().map(|range| range.text.as_str()).collect();
        assert_eq!(texts, ["10.244.1.0/24", "fd00:1::/64"]);
        assert!(two[0].address.is_ipv4() && two[1].address.is_ipv6());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in
            ["10.244.1.0", "10.244.1.0/33", "x/24", "10.0.0.0/+8", "10.0.0.0/8,", "::/129", "\"/8"]
        {
            assert!(matches!(pod_ranges(wrong), Err(Refusal::Invalid { .. })), "{wrong}");
        }
    }
}
