//! Bandwidth of a pod: the annotations that Kubernetes has for it, in bits per second.

use crate::conf::PlanError;
use serde::Serialize;
use std::collections::BTreeMap;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// No limit of its own for bursts; the plugin's field has 32 bits in some releases.
const BURST: u64 = 0x7fff_ffff;

/// What may be asked for, in bits per second.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;

/// Suffixes of quantities.
const SUFFIXES: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

/// The argument of capability `bandwidth`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bandwidth {
    #[serde(rename = "ingressRate", skip_serializing_if = "Option::is_none")]
    ingress_rate: Option<u64>,
    #[serde(rename = "ingressBurst", skip_serializing_if = "Option::is_none")]
    ingress_burst: Option<u64>,
    #[serde(rename = "egressRate", skip_serializing_if = "Option::is_none")]
    egress_rate: Option<u64>,
    #[serde(rename = "egressBurst", skip_serializing_if = "Option::is_none")]
    egress_burst: Option<u64>,
}

/// What the annotations ask for, if they do.
///
/// # Errors
/// If a value is no quantity, or one that makes no sense.
pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Result<Option<Bandwidth>, PlanError> {
    let rate = |key: &'static str| {
        let read = |value: &String| {
            let bits = quantity(value).filter(|bits| (LEAST..=MOST).contains(bits));
            bits.ok_or_else(|| PlanError::Bandwidth { key, value: value.clone() })
        };
        annotations.get(key).map(read).transpose()
    };
    let (ingress_rate, egress_rate) = (rate(INGRESS)?, rate(EGRESS)?);
    if ingress_rate.is_none() && egress_rate.is_none() {
        return Ok(None);
    }
    let burst = |rate: Option<u64>| rate.map(|_| BURST);
    Ok(Some(Bandwidth {
        ingress_rate,
        ingress_burst: burst(ingress_rate),
        egress_rate,
        egress_burst: burst(egress_rate),
    }))
}

/// A whole or decimal number with a suffix; what is below one bit is cut off.
fn quantity(text: &str) -> Option<u64> {
    let found = SUFFIXES
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)));
    let (number, unit) = found.unwrap_or((text, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|one| one.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut scale = 1_u128;
    let mut part = 0_u128;
    for digit in fraction.bytes() {
        scale *= 10;
        part = part * 10 + u128::from(digit - b'0');
    }
    let part = u64::try_from(part * u128::from(unit) / scale).ok()?;
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_kubernetes_are_bits_per_second() {
        for (text, bits) in [
            ("10M", Some(10_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("512Ki", Some(524_288)),
            ("2000", Some(2_000)),
            ("M", None),
            ("-1M", None),
            ("1e3", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(quantity(text), bits, "{text}");
        }
    }

    #[test]
    fn only_what_an_annotation_asks_for_is_limited_and_nonsense_is_refused() {
        let annotations = |value: &str| BTreeMap::from([(EGRESS.to_owned(), value.to_owned())]);
        let asked = of(&annotations("10M")).unwrap().unwrap();
        assert_eq!((asked.ingress_rate, asked.egress_rate), (None, Some(10_000_000)));
        assert_eq!(of(&BTreeMap::new()).unwrap(), None);
        for value in ["fast", "1", "2000P"] {
            assert!(of(&annotations(value)).unwrap_err().to_string().contains(value));
        }
    }
}
