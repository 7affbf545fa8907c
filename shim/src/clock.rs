//! The wall clock, and its text form.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, never zero: zero means "never" to our readers.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// A time as RFC 3339 with nanoseconds in UTC: `2026-11-21T10:15:45.123456789Z`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp([u8; LENGTH]);

const LENGTH: usize = 30;
const SECOND: u64 = 1_000_000_000;

impl Stamp {
    /// The present.
    pub(crate) fn now() -> Self {
        Self::from_nanoseconds(now())
    }

    /// So many nanoseconds after the epoch.
    pub(crate) fn from_nanoseconds(nanoseconds: u64) -> Self {
        let seconds = nanoseconds / SECOND;
        let (year, month, day) = date(seconds / 86_400);
        let second_of_day = seconds % 86_400;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second_of_day / 3600);
        digits(&mut text[14..16], second_of_day / 60 % 60);
        digits(&mut text[17..19], second_of_day % 60);
        digits(&mut text[20..29], nanoseconds % SECOND);
        Self(text)
    }

    /// Its text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes `value` right-aligned into `place`, which is filled with zeros.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(value % 10).unwrap_or(0)];
        value /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(day: u64) -> (u64, u64, u64) {
    // Years are taken to begin in March, so that the leap day is the last of its year; 719 468 days lie between
    // 0000-03-01 and the epoch, 146 097 in each era of 400 years.
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 153 days in each five.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (year_step, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (era * 400 + year_of_era + year_step, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_rfc_3339_in_utc() {
        let cases: [(u64, &str); 6] = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000000Z"),
            (1_795_255_145, "2026-11-21T09:59:05.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (seconds, text) in cases {
            let stamp = Stamp::from_nanoseconds(seconds * SECOND);
            assert_eq!(std::str::from_utf8(stamp.as_bytes()).unwrap(), text, "{seconds}");
        }
        let stamp = Stamp::from_nanoseconds(1_234_567_891);
        assert_eq!(stamp.as_bytes(), b"1970-01-01T00:00:01.234567891Z");
    }
}
