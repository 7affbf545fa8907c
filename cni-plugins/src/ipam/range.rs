//! Ranges of addresses: what of a subnet may be given out. Addresses are counted as numbers of 128 bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

use crate::spec::Error;
use crate::spec::conf::null_as_default;

/// A range as it is configured.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RangeConf {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) subnet: String,
    #[serde(rename = "rangeStart", default, deserialize_with = "null_as_default")]
    pub(super) range_start: String,
    #[serde(rename = "rangeEnd", default, deserialize_with = "null_as_default")]
    pub(super) range_end: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) gateway: String,
}

/// A checked range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: IpNet,
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) gateway: Option<IpAddr>,
}

/// Whether subnets of one or two addresses may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PointToPoint {
    Allowed,
    Refused,
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Range {
    pub(super) fn parse(conf: &RangeConf, point_to_point: PointToPoint) -> Result<Self, Error> {
        let subnet: IpNet = conf.subnet.parse().map_err(|cause| {
            Error::unparsed(
                format!("subnet {:?} is not an address with a prefix", conf.subnet),
                &cause,
            )
        })?;
        if subnet.addr() != subnet.network() {
            let text =
                format!("subnet {subnet} has host bits set: the network is {}", subnet.trunc());
            return Err(Error::configuration(text));
        }
        let is_small = subnet.max_prefix_len() - subnet.prefix_len() < 2;
        if is_small && point_to_point == PointToPoint::Refused {
            return Err(Error::configuration(format!(
                "subnet {subnet} is too small to give out addresses"
            )));
        }
        let (mut first, mut last) = (number(subnet.network()), number(subnet.broadcast()));
        if !is_small {
            first += 1;
            last -= u128::from(subnet.addr().is_ipv4());
        }
        let mut range = Self { subnet, first, last, gateway: None };
        range.gateway = match address("gateway", &conf.gateway)? {
            None if is_small => None,
            None => range.address(number(subnet.network()) + 1),
            configured => configured,
        };
        if let Some(start) = range.bound("rangeStart", &conf.range_start)? {
            range.first = start;
        }
        if let Some(end) = range.bound("rangeEnd", &conf.range_end)? {
            range.last = end;
        }
        if range.first > range.last {
            return Err(Error::configuration(format!("range {range} ends before it starts")));
        }
        Ok(range)
    }

    fn bound(&self, key: &str, text: &str) -> Result<Option<u128>, Error> {
        let Some(found) = address(key, text)? else { return Ok(None) };
        if self.subnet.contains(&found) {
            return Ok(Some(number(found)));
        }
        Err(Error::configuration(format!("{key} {found} is not in subnet {}", self.subnet)))
    }

    pub(super) fn address(&self, number: u128) -> Option<IpAddr> {
        match self.subnet {
            IpNet::V4(_) => u32::try_from(number).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
            IpNet::V6(_) => Some(Ipv6Addr::from_bits(number).into()),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.addr().is_ipv4()
            && (self.first..=self.last).contains(&number(address))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.subnet.addr().is_ipv4() == other.subnet.addr().is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address(self.first), self.address(self.last)) {
            (Some(first), Some(last)) => write!(formatter, "{first}-{last}"),
            (_, _) => write!(formatter, "{}", self.subnet),
        }
    }
}

/// Ranges that together give a container one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeSet(Vec<Range>);

impl RangeSet {
    pub(super) fn parse(conf: &[RangeConf], point_to_point: PointToPoint) -> Result<Self, Error> {
        let ranges = conf.iter().map(|range| Range::parse(range, point_to_point));
        let ranges: Vec<Range> = ranges.collect::<Result<_, _>>()?;
        let Some(first) = ranges.first() else {
            return Err(Error::configuration("a range set is empty"));
        };
        if ranges.iter().any(|range| range.subnet.addr().is_ipv4() != first.subnet.addr().is_ipv4())
        {
            return Err(Error::configuration("a range set mixes address families"));
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges.iter().take(index).find(|other| other.overlaps(range)) {
                return Err(Error::configuration(format!("ranges {other} and {range} overlap")));
            }
        }
        Ok(Self(ranges))
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.subnet.addr().is_ipv4())
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|other| range.overlaps(other)))
    }

    /// The range that has that address.
    pub(super) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.gateway == Some(address))
    }

    /// Every address that may be given out, once, beginning after that one.
    pub(super) fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let start = last.and_then(|last| {
            let place = self.0.iter().position(|range| range.contains(last))?;
            Some((place, number(last)))
        });
        let (place, reached) = start.map_or((0, None), |(place, last)| (place, Some(last)));
        let begun = self.0.get(place).into_iter();
        let tail =
            begun.clone().filter(move |range| reached != Some(range.last)).flat_map(move |range| {
                let from = reached.map_or(range.first, |reached| reached.saturating_add(1));
                numbers(from, range.last, range)
            });
        let others = self.0.iter().cycle().skip(place + 1).take(self.0.len().saturating_sub(1));
        let others = others.flat_map(|range| numbers(range.first, range.last, range));
        let head = begun.flat_map(move |range| {
            let to = reached.into_iter();
            to.flat_map(move |reached| numbers(range.first, reached, range))
        });
        tail.chain(others).chain(head).filter(|address| !self.is_gateway(*address))
    }
}

fn numbers(from: u128, to: u128, range: &Range) -> impl Iterator<Item = IpAddr> + '_ {
    (from..=to).filter_map(|number| range.address(number))
}

/// The address in that text; none if it is empty.
pub(super) fn address(key: &str, text: &str) -> Result<Option<IpAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|cause| Error::unparsed(format!("{key} {text:?} is not an address"), &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeConf {
        RangeConf {
            subnet: subnet.into(),
            range_start: start.into(),
            range_end: end.into(),
            gateway: gateway.into(),
        }
    }

    fn set(ranges: &[RangeConf]) -> RangeSet {
        RangeSet::parse(ranges, PointToPoint::Refused).unwrap()
    }

    #[test]
    fn a_range_without_bounds_is_all_of_its_subnet_that_hosts_can_have() {
        let cases = [
            ("10.1.2.0/24", "10.1.2.1-10.1.2.254", "10.1.2.1"),
            ("10.1.2.0/30", "10.1.2.1-10.1.2.2", "10.1.2.1"),
            ("fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:ffff", "fd00::1"),
        ];
        for (subnet, all, gateway) in cases {
            let range = Range::parse(&conf(subnet, "", "", ""), PointToPoint::Refused).unwrap();
            assert_eq!(range.to_string(), all, "{subnet}");
            assert_eq!(range.gateway.unwrap().to_string(), gateway, "{subnet}");
        }
    }

    #[test]
    fn impossible_ranges_are_refused() {
        let cases = [
            ("", "", "", ""),
            ("10.1.2.0", "", "", ""),
            ("10.1.2.3/24", "", "", ""),
            ("10.1.2.0/31", "", "", ""),
            ("10.1.2.0/32", "", "", ""),
            ("fd00::/127", "", "", ""),
            ("10.1.2.0/24", "10.1.3.1", "", ""),
            ("10.1.2.0/24", "", "10.1.3.1", ""),
            ("10.1.2.0/24", "10.1.2.9", "10.1.2.8", ""),
            ("10.1.2.0/24", "x", "", ""),
            ("10.1.2.0/24", "", "", "x"),
        ];
        for (subnet, start, end, gateway) in cases {
            let conf = conf(subnet, start, end, gateway);
            assert_eq!(Range::parse(&conf, PointToPoint::Refused).unwrap_err().code, 7, "{conf:?}");
        }
        Range::parse(&conf("10.1.2.0/31", "", "", ""), PointToPoint::Allowed).unwrap();
        Range::parse(&conf("fd00::1/128", "", "", ""), PointToPoint::Allowed).unwrap();
    }

    #[test]
    fn a_set_has_one_family_and_no_overlap() {
        let v4 = conf("10.1.2.0/24", "", "", "");
        for other in [conf("fd00::/64", "", "", ""), conf("10.1.2.0/25", "", "", "")] {
            RangeSet::parse(&[v4.clone(), other], PointToPoint::Refused).unwrap_err();
        }
        RangeSet::parse(&[], PointToPoint::Refused).unwrap_err();
        let halves =
            [conf("10.1.2.0/24", "", "10.1.2.99", ""), conf("10.1.2.0/24", "10.1.2.100", "", "")];
        RangeSet::parse(&halves, PointToPoint::Refused).unwrap();
    }

    #[test]
    fn addresses_go_round_from_any_start_without_gateways() {
        let ranges = set(&[
            conf("10.0.0.0/29", "", "10.0.0.3", ""),
            conf("10.0.1.0/30", "", "", "10.0.1.2"),
        ]);
        let after = |last: &str| -> Vec<String> {
            ranges.after(last.parse().ok()).map(|address| address.to_string()).collect()
        };
        // The first range's gateway is its first address, the second's is configured.
        assert_eq!(after(""), ["10.0.0.2", "10.0.0.3", "10.0.1.1"]);
        assert_eq!(after("10.0.0.2"), ["10.0.0.3", "10.0.1.1", "10.0.0.2"]);
        assert_eq!(after("10.0.0.3"), ["10.0.1.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(after("10.0.1.1"), ["10.0.0.2", "10.0.0.3", "10.0.1.1"]);
        assert_eq!(after("192.168.0.1"), ["10.0.0.2", "10.0.0.3", "10.0.1.1"]);
    }

    #[test]
    fn the_whole_of_both_families_can_be_walked_without_overflow() {
        let all = set(&[conf("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "", "fe80::1")]);
        assert_eq!(all.after("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().ok()).count(), 2);
        let all = set(&[conf("0.0.0.0/0", "255.255.255.254", "", "1.1.1.1")]);
        assert_eq!(all.after(None).count(), 1);
    }
}
