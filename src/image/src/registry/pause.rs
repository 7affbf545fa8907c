//! How long to wait before a registry is asked again.

use http::{HeaderMap, HeaderName, header};
use std::time::{Duration, SystemTime};

/// A registry that asks for more is asked again after this, and then perhaps given up: the client will come again.
const LONGEST: Duration = Duration::from_secs(60);

/// What the registry asks for: seconds, or a point in time. The latter is by its own clock, and so is the date of its answer;
/// ours, which may be wrong, has no say.
pub(super) fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now = date(headers, &header::DATE)?;
    // What lies behind it need not be waited for.
    Some(until.duration_since(now).unwrap_or_default())
}

/// What was asked for, if it was, else our own delay; never too long.
pub(super) fn before_next(asked: Option<Duration>, delay: Duration) -> Duration {
    asked.unwrap_or_else(|| jittered(delay)).min(LONGEST)
}

/// Between half and all of the delay, so that many nodes don't come again at the same time.
pub(super) fn jittered(delay: Duration) -> Duration {
    let mut byte = [0];
    let filled = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    let share = if filled == Ok(1) { u32::from(byte[0]) } else { 255 };
    delay / 2 + delay * share / 510
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_pause_is_given_in_seconds_or_by_the_servers_clock() {
        let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
        for (retry, date, expected) in [
            ("7", None, Some(7)),
            (" 0 ", Some(noon), Some(0)),
            ("Sun, 06 Nov 1994 12:00:30 GMT", Some(noon), Some(30)),
            ("Sun, 06 Nov 1994 11:00:00 GMT", Some(noon), Some(0)),
            // Without a date of its own nobody knows how far away that is.
            ("Sun, 06 Nov 1994 12:00:30 GMT", None, None),
            ("Sun, 06 Nov 1994 12:00:30 GMT", Some("today"), None),
            ("soon", Some(noon), None),
            ("-1", Some(noon), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(retry));
            headers.extend(date.map(|date| (header::DATE, HeaderValue::from_static(date))));
            assert_eq!(asked_for(&headers), expected.map(Duration::from_secs), "{retry} {date:?}");
        }
        assert_eq!(asked_for(&HeaderMap::new()), None);
    }

    #[test]
    fn no_pause_is_longer_than_a_minute() {
        let second = Duration::from_secs(1);
        assert_eq!(before_next(Some(Duration::from_secs(86_400)), second), LONGEST);
        assert_eq!(before_next(Some(Duration::from_secs(5)), second), Duration::from_secs(5));
        assert!(before_next(None, second) <= second && before_next(None, second) >= second / 2);
        assert_eq!(before_next(None, Duration::from_secs(600)), LONGEST);
    }
}
