//! Signals: the CRI numbers them in its own way, so they are converted by name.

use cringle_domain::process::Signal;
use cringle_domain::refusal::Refusal;
use cringle_proto_cri::v1;

/// The signal of a request; `None` leaves it to the image.
pub(super) fn signal(number: i32, field: &str) -> Result<Option<Signal>, Refusal> {
    let signal: v1::Signal = super::fields::known(number, field)?;
    if signal == v1::Signal::RuntimeDefault {
        return Ok(None);
    }
    Signal::parse(name(signal))
        .map(Some)
        .map_err(|error| Refusal::invalid(field, error.to_string()))
}

/// The signal in an answer.
pub(super) fn to_cri(signal: Signal) -> v1::Signal {
    let named = (1..=65)
        .filter_map(|number| v1::Signal::try_from(number).ok())
        .find(|candidate| Signal::parse(name(*candidate)).is_ok_and(|found| found == signal));
    // The CRI has no name for 32 and 33, which the C library keeps for itself.
    named.unwrap_or(v1::Signal::RuntimeDefault)
}

fn name(signal: v1::Signal) -> &'static str {
    let name = signal.as_str_name();
    name.strip_prefix("SIGNAL_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_the_cri_has_a_number_and_comes_back() {
        for number in 1..=65 {
            let found = signal(number, "stop_signal").unwrap().unwrap();
            let back = to_cri(found);
            assert_eq!(signal(back.into(), "").unwrap(), Some(found), "{number}");
        }
        assert!(v1::Signal::try_from(66).is_err(), "the CRI grew");
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (given, expected) in [
            (v1::Signal::Sigterm, 15),
            (v1::Signal::Sigkill, 9),
            (v1::Signal::Sigusr1, 10),
            (v1::Signal::Sigrtmin, 34),
            (v1::Signal::Sigrtminplus3, 37),
            (v1::Signal::Sigrtmaxminus1, 63),
            (v1::Signal::Sigrtmax, 64),
        ] {
            let found = signal(given.into(), "").unwrap().map(Signal::number);
            assert_eq!(found, Some(expected), "{given:?}");
        }
        assert_eq!(signal(0, ""), Ok(None));
        signal(99, "").unwrap_err();
    }
}
