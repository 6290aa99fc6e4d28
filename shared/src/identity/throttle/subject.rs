//! The subjects that attempts are counted for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::KnownDevice;
use crate::identity::email::Email;

/// The network part of an IPv6 address. The client chooses the other half (RFC 4291, section
/// 2.5.4): counting it would multiply the limit by 2^64.
const IPV6_NETWORK_BITS: u32 = 64;

/// Prefix of the keys of accounts.
const ACCOUNT: &str = "account#";

/// Prefix of the keys of devices.
const DEVICE: &str = "device#";

/// An account, a device or a network address, as the key of its row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThrottleKey(String);

impl ThrottleKey {
    /// The account of an e-mail address, which need not exist.
    pub fn of_account(email: &Email) -> Self {
        Self(format!("{ACCOUNT}{}", URL_SAFE_NO_PAD.encode(Sha256::digest(email.as_str()))))
    }

    /// A device that has signed in to an account. Its id is unique to that account.
    pub fn of_device(device: KnownDevice) -> Self {
        Self(format!("{DEVICE}{device}"))
    }

    /// The network of an address: the address itself (IPv4), or its /64 (IPv6). An IPv4-mapped IPv6
    /// address counts as IPv4.
    pub fn of_address(address: IpAddr) -> Self {
        Self(format!("address#{}", network(address)))
    }

    /// The sign-ups from the network of an address.
    pub fn of_sign_ups(address: IpAddr) -> Self {
        Self(format!("sign-ups#{}", network(address)))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For logs, which identify no account, not even by a hash.
impl fmt::Display for ThrottleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            key if key.starts_with(ACCOUNT) => "account#…",
            key if key.starts_with(DEVICE) => "device#…",
            key => key,
        })
    }
}

fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS;
            format!("{}/{IPV6_NETWORK_BITS}", Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_address(text: &str) -> String {
        ThrottleKey::of_address(text.parse().unwrap()).as_str().to_owned()
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_itself() {
        assert_eq!(of_address("203.0.113.7"), "address#203.0.113.7");
        assert_eq!(of_address("2001:db8:1:2:aaaa:bbbb:cccc:dddd"), "address#2001:db8:1:2::/64");
        assert_eq!(of_address("2001:db8:1:2::1"), of_address("2001:db8:1:2:ffff::"));
        assert_ne!(of_address("2001:db8:1:2::1"), of_address("2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_spelling_is_the_ipv4_address() {
        assert_eq!(of_address("::ffff:203.0.113.7"), of_address("203.0.113.7"));
        assert_ne!(of_address("::ffff:203.0.113.7"), of_address("::ffff:203.0.113.8"));
    }

    #[test]
    fn an_account_is_one_in_any_spelling_and_its_key_does_not_show_it() {
        let account = |text: &str| ThrottleKey::of_account(&text.parse().unwrap());
        assert_eq!(account("ann@example.com"), account(" Ann@Example.COM"));
        assert_ne!(account("ann@example.com"), account("bob@example.com"));
        let subject = account("ann@example.com");
        let key = subject.as_str();
        assert!(!key.contains("ann") && !key.contains('@') && key.len() == ACCOUNT.len() + 43, "{key}");
        assert_eq!(subject.to_string(), "account#…");
    }
}
