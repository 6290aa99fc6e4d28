//! A whole number with bounds, for settings: a value out of bounds is refused when a function
//! starts.

use std::str::FromStr;

/// A number that is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is a whole number from {min} to {max}")]
pub struct OutOfBounds {
    min: u16,
    max: u16,
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: u16, const MAX: u16>(u16);

impl<const MIN: u16, const MAX: u16> Bounded<MIN, MAX> {
    /// The largest value.
    pub const MAX: u16 = MAX;

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl<const MIN: u16, const MAX: u16> FromStr for Bounded<MIN, MAX> {
    type Err = OutOfBounds;

    fn from_str(text: &str) -> Result<Self, OutOfBounds> {
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(OutOfBounds { min: MIN, max: MAX }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_its_bounds_is_refused_with_the_bounds() {
        for text in ["1", "20", "100"] {
            assert!(text.parse::<Bounded<1, 100>>().is_ok(), "{text}");
        }
        for text in ["", "0", "101", "-1", "2.0", "many", "65537"] {
            let error = text.parse::<Bounded<1, 100>>().unwrap_err();
            assert_eq!(error.to_string(), "it is a whole number from 1 to 100", "{text}");
        }
    }
}
