//! Amounts of money: whole minor units and an ISO 4217 code. No floats, and checked sums.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::core::json;

/// A currency code: three capital letters. Rows may contain codes that ISO 4217 has withdrawn
/// since, so any stored code is read, and only a new price is checked against the list
/// ([`Currency::is_listed`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        // Three ASCII capitals by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether ISO 4217 lists the currency, with minor units. The codes for gold, tests and "no
    /// currency" have none.
    pub fn is_listed(&self) -> bool {
        iso_currency::Currency::from_code(self.as_str()).is_some_and(|listed| listed.exponent().is_some())
    }
}

/// Text that is not three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a currency is an ISO 4217 code of three capital letters")]
pub struct InvalidCurrency;

impl FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| InvalidCurrency)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(InvalidCurrency) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount in minor units (cents, or whole yen) of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units. Never negative in a price.
    #[serde(deserialize_with = "json::integer")]
    pub amount: u64,
    pub currency: Currency,
}

/// Why two amounts have no sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The amounts are of two currencies.
    #[error("amounts in {0} and {1} cannot be added")]
    MixedCurrencies(Currency, Currency),
    /// The sum is above [`Money::MAX_AMOUNT`].
    #[error("the amount is above {} minor units", Money::MAX_AMOUNT)]
    TooLarge,
}

impl Money {
    /// Largest amount: the largest integer that every JSON reader represents exactly (2^53 - 1).
    pub const MAX_AMOUNT: u64 = 9_007_199_254_740_991;

    /// This amount `quantity` times.
    pub fn times(self, quantity: u32) -> Result<Self, MoneyError> {
        let amount = self.amount.checked_mul(u64::from(quantity)).ok_or(MoneyError::TooLarge)?;
        Self { amount, ..self }.bounded()
    }

    /// The sum of two amounts of one currency.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::MixedCurrencies(self.currency, other.currency));
        }
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::TooLarge)?;
        Self { amount, ..self }.bounded()
    }

    /// This amount, unless it is above [`Money::MAX_AMOUNT`].
    pub fn bounded(self) -> Result<Self, MoneyError> {
        if self.amount <= Self::MAX_AMOUNT { Ok(self) } else { Err(MoneyError::TooLarge) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn twd(amount: u64) -> Money {
        Money { amount, currency: "TWD".parse().unwrap() }
    }

    #[test]
    fn two_currencies_have_no_sum() {
        let yen = Money { amount: 1, currency: "JPY".parse().unwrap() };
        assert!(matches!(twd(1).plus(yen), Err(MoneyError::MixedCurrencies(..))));
    }

    #[test]
    fn currencies_of_the_list_that_have_minor_units_are_listed() {
        let is_listed = |code: &str| code.parse::<Currency>().unwrap().is_listed();
        for code in ["TWD", "JPY", "EUR", "KWD"] {
            assert!(is_listed(code), "{code}");
        }
        for code in ["XYZ", "AAA", "XXX", "XTS", "XAU"] {
            assert!(!is_listed(code), "{code}");
        }
    }

    proptest! {
        #[test]
        fn sums_and_products_are_exact_or_refused(a in 0..=Money::MAX_AMOUNT, b in 0..=Money::MAX_AMOUNT, q: u32) {
            let sum = u128::from(a) + u128::from(b);
            prop_assert_eq!(twd(a).plus(twd(b)).ok().map(|m| u128::from(m.amount)),
                (sum <= u128::from(Money::MAX_AMOUNT)).then_some(sum));
            let product = u128::from(a) * u128::from(q);
            prop_assert_eq!(twd(a).times(q).ok().map(|m| u128::from(m.amount)),
                (product <= u128::from(Money::MAX_AMOUNT)).then_some(product));
        }
    }
}
