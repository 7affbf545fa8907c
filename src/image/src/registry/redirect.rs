//! Redirects: which are followed, and where they lead.

use super::Cause;
use super::transport::{self, Origin};
use http::{Response, StatusCode, Uri, header};
use hyper::body::Incoming;

/// Whether a status sends us elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where to go next, if one may. `home` is the endpoint that was asked first.
pub(super) fn next_location(
    home: &Origin,
    from: &Uri,
    response: &Response<Incoming>,
) -> Result<Uri, Cause> {
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .filter(|location| !location.is_empty())
        .ok_or(Cause::Protocol("a redirect to nowhere"))?;
    let refused = |problem| Cause::Redirect { location: without_query(location), problem };
    let next = resolve(from, location).ok_or_else(|| refused("it is not a URL"))?;
    let target = Origin::of(&next).ok_or_else(|| refused("it is not a URL of HTTP"))?;
    let is_downgrade = Origin::of(from).is_some_and(|from| from.is_https()) && !target.is_https();
    if is_downgrade {
        return Err(refused("it gives up encryption"));
    }
    transport::check_target(home, &target).map_err(refused)?;
    Ok(next)
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    if location.contains("://") && !location.starts_with('/') {
        return location.parse().ok();
    }
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}").parse().ok();
    }
    let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{scheme}://{authority}{directory}/{location}").parse().ok()
}

/// Signed URLs carry their secret in the query.
fn without_query(location: &str) -> String {
    location.split('?').next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_where_they_were_given() {
        let base: Uri = "https://a.io/v2/app/manifests/1?x=y".parse().expect("a URL");
        for (location, full) in [
            ("https://b.io/c", "https://b.io/c"),
            ("//b.io/c", "https://b.io/c"),
            ("/c?d=e", "https://a.io/c?d=e"),
            ("2", "https://a.io/v2/app/manifests/2"),
        ] {
            assert_eq!(resolve(&base, location), full.parse().ok(), "{location}");
        }
        assert_eq!(resolve(&base, "ht tp://"), None);
    }
}
