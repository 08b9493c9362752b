//! Addresses of others, which carry secrets in their user part, query and path.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// A URL that shows its origin and nothing else: `https://hooks.example.com/…`, whatever else stands in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// A text that is no address to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read. The text itself is not shown: it may carry a secret.
    #[error("the address is not an http:// or https:// URL")]
    NotHttp,
    /// It leads to the machine itself, or to what only the machine is meant to reach.
    #[error("the address leads to this machine or its own network, which webhooks and metrics never call")]
    Own,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is no URL of HTTP.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::NotHttp)?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self(url)),
            _ => Err(AddressError::NotHttp),
        }
    }

    /// The whole URL, to be called and not to be shown.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Refuses addresses of link-local networks, where clouds keep the machine's credentials, and unless `loopback` is
    /// allowed those of this machine. Names are looked at when they are resolved.
    ///
    /// # Errors
    /// When it is one.
    pub fn outside(self, loopback: bool) -> Result<Self, AddressError> {
        let own = match self.0.host() {
            Some(url::Host::Ipv4(ip)) => is_own(IpAddr::V4(ip), loopback),
            Some(url::Host::Ipv6(ip)) => is_own(IpAddr::V6(ip), loopback),
            Some(url::Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                !loopback && (name == "localhost" || name.ends_with(".localhost"))
            }
            None => true,
        };
        if own { Err(AddressError::Own) } else { Ok(self) }
    }
}

/// Whether nobody but the machine itself is meant to be reached there.
pub(super) fn is_own(ip: IpAddr, loopback: bool) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || (!loopback && ip.is_loopback())
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip == Ipv6Addr::UNSPECIFIED
                || is_metadata(ip)
                || (!loopback && ip.is_loopback())
        }
    }
}

/// The cloud's own service for machines, which one of them gives a unique local address.
fn is_metadata(ip: Ipv6Addr) -> bool {
    ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.0.path() == "/" && self.0.query().is_none() { "" } else { "/…" };
        write!(f, "{}{more}", self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_origin_is_shown() {
        let address =
            Address::parse("https://user:pw@hooks.example.com:8443/services/T0/SECRET?token=SECRET#SECRET")
                .unwrap();
        for shown in [address.to_string(), format!("{address:?}")] {
            assert_eq!(shown, "https://hooks.example.com:8443/…");
        }
        for text in ["file:///etc/passwd", "SECRET", "http://", "http://SECRET:x/", "unix:/run/SECRET"] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.to_string().contains("SECRET"), "{text}");
        }
    }

    #[test]
    fn the_machine_and_its_own_network_are_not_called() {
        let own = [
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0/",
            "http://[fd00:ec2::254]/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
        ];
        for text in own {
            assert_eq!(Address::parse(text).unwrap().outside(true), Err(AddressError::Own), "{text}");
        }
        for text in [
            "http://127.0.0.1:8080/",
            "http://[::1]/",
            "http://localhost/",
            "http://a.localhost./",
            "http://127.1/",
        ] {
            assert_eq!(Address::parse(text).unwrap().outside(false), Err(AddressError::Own), "{text}");
            assert!(Address::parse(text).unwrap().outside(true).is_ok(), "{text}");
        }
        for text in ["http://10.0.0.7/", "http://load-tester.test/", "https://[2001:db8::1]/"] {
            assert!(Address::parse(text).unwrap().outside(false).is_ok(), "{text}");
        }
    }
}
