//! Who gets to see which password.

use crate::netrc::Netrc;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// Login and password for a request to `url` that was first sent to `first`, if there are any.
///
/// Passwords that a URL has in it are for that server alone, and so is the entry for all machines of the `netrc` file. A
/// redirect from HTTPS to HTTP leads to where anybody can read along, so nothing of one's own is sent there.
pub(crate) fn credentials(url: &Url, first: &Url, netrc: &Netrc) -> Option<(String, String)> {
    if url.scheme() == "http" && first.scheme() == "https" {
        return None;
    }
    let at_first = url.origin() == first.origin();
    let owner = if url.username().is_empty() && url.password().is_none() && at_first { first } else { url };
    let login = decoded(owner.username());
    if let Some(password) = owner.password() {
        return Some((login, decoded(password)));
    }
    let host = match url.host()? {
        Host::Domain(domain) => domain.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    if login.is_empty() {
        return netrc.find(&host, None, at_first);
    }
    netrc.find(&host, Some(&login), at_first).or(Some((login, String::new())))
}

/// The value of a header for the scheme `Basic`.
pub(crate) fn basic(login: &str, password: &str) -> HeaderValue {
    let encoded = kiln_hash::encoding::base64(format!("{login}:{password}").as_bytes());
    let mut value =
        HeaderValue::from_str(&format!("Basic {encoded}")).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: &str, first: &str) -> Option<(String, String)> {
        let netrc = Netrc::parse(b"machine known login me password mine default login any password body");
        credentials(&Url::parse(url).unwrap(), &Url::parse(first).unwrap(), &netrc)
    }

    fn pair(login: &str, password: &str) -> Option<(String, String)> {
        Some((login.to_owned(), password.to_owned()))
    }

    #[test]
    fn b11_passwords_go_to_whom_they_belong() {
        let (known, other) = ("http://known/a", "http://other/a");
        assert_eq!(find(known, known), pair("me", "mine"));
        assert_eq!(find(other, other), pair("any", "body"));
        assert_eq!(find("http://me@known/", "http://me@known/"), pair("me", "mine"));
        assert_eq!(find("http://you@known/", "http://you@known/"), pair("you", ""));
        assert_eq!(find("http://a%20b:c%3a@known/", "http://a%20b:c%3a@known/"), pair("a b", "c:"));
        assert_eq!(find("http://[::1]/", "http://[::1]/"), pair("any", "body"));
    }

    #[test]
    fn b11_passwords_are_not_carried_to_other_hosts() {
        let secret = "https://you:yours@here/a";
        assert_eq!(find("https://here/b", secret), pair("you", "yours"));
        assert_eq!(find("https://other/b", secret), None);
        assert_eq!(find("https://here:8443/b", secret), None);
        assert_eq!(find("https://known/b", secret), pair("me", "mine"));
        for open in ["http://here/b", "http://known/b"] {
            assert_eq!(find(open, secret), None, "{open}");
        }
    }

    #[test]
    fn basic_is_encoded() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic("a", "b").is_sensitive());
    }
}
