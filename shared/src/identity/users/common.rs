//! Passwords that are easy to guess.
//!
//! A new password is compared with common passwords and with the account's own address (NIST SP
//! 800-63B, section 3.1.1.2). A list alone would miss `Password2026!!`, so the rule counts *parts*:
//!
//! 1. Case does not count, and `p@ssw0rd` is read as `password`.
//! 2. A part is a common password of the list, the account's address or the name in it, a keyboard
//!    or alphabet sequence in either direction, up to four digits (a year, a day), or any other
//!    single character.
//! 3. A repetition of the characters before it is not a part: `aaa` and `abcdabcd` gain nothing by
//!    their length.
//! 4. A password is too common if it consists of fewer than [`MIN_PARTS`] parts.
//!
//! So `Password2026!!` has three parts and is refused; `correct horse battery staple` has over
//! twenty.
//!
//! The rule does not measure strength: it refuses what attackers try first.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::identity::email::Email;

/// The list. A comment at its head names its origin and licence.
const LIST: &str = include_str!("common_passwords.txt");

/// Fewest parts of a password. Tools try three common words or numbers in a row; a fourth costs
/// them too much.
const MIN_PARTS: usize = 4;

/// Shortest sequence that is one part.
const MIN_SEQUENCE: usize = 3;

/// Longest number that is one part.
const MAX_DIGITS: usize = 4;

/// Shortest name of an address that counts as a word. Two letters occur in every second password.
const MIN_NAME: usize = 3;

/// Sequences on a keyboard, and in the alphabet.
const SEQUENCES: &[&str] = &[
    "1234567890",
    "qwertyuiop[]",
    "qwertz",
    "azerty",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "qazwsxedcrfvtgbyhnujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "abcdefghijklmnopqrstuvwxyz",
];

static WORDS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| LIST.lines().filter(|line| !line.starts_with("# ")).collect());

/// Length of the longest word of the list.
static LONGEST_WORD: LazyLock<usize> =
    LazyLock::new(|| WORDS.iter().map(|word| word.len()).max().unwrap_or(0));

/// Whether `password` is one of the first guesses for the account of `email`.
pub(super) fn is_common(password: &str, email: &Email) -> bool {
    fewest_parts(password, email) < MIN_PARTS
}

/// The smallest possible number of parts.
fn fewest_parts(password: &str, email: &Email) -> usize {
    let typed: Vec<char> = password.to_lowercase().chars().collect();
    let plain: Vec<char> = typed.iter().copied().map(plain).collect();
    let name = email.as_str().split('@').next().unwrap_or_default();
    let own: Vec<Vec<char>> = [email.as_str(), name]
        .into_iter()
        .filter(|word| word.len() >= MIN_NAME)
        .map(|word| word.chars().collect())
        .collect();

    // parts[n]: the fewest parts of the first n characters.
    let mut parts = vec![usize::MAX; typed.len().saturating_add(1)];
    parts[0] = 0;
    for start in 0..typed.len() {
        let so_far = parts[start];
        let mut reach = |length: usize, cost: usize| {
            let end = start.saturating_add(length);
            parts[end] = parts[end].min(so_far.saturating_add(cost));
        };
        let rest = &typed[start..];
        for length in 1..=one_part(rest) {
            reach(length, 1);
        }
        let own_words = own.iter().filter(|word| rest.starts_with(word)).map(Vec::len);
        own_words.for_each(|length| reach(length, 1));
        for text in [rest, &plain[start..]] {
            words(text).for_each(|length| reach(length, 1));
        }
        repetitions(&typed[..start], rest).for_each(|length| reach(length, 0));
    }
    parts[typed.len()]
}

/// The letter that a digit or sign stands for in `p@ssw0rd`.
fn plain(typed: char) -> char {
    match typed {
        '@' | '4' => 'a',
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// The length of the part at the start of `rest` that is not a word; at least one.
fn one_part(rest: &[char]) -> usize {
    let digits = rest.iter().take(MAX_DIGITS).take_while(|c| c.is_ascii_digit()).count();
    let sequence = SEQUENCES.iter().map(|sequence| along(sequence, rest)).max().unwrap_or(0);
    let sequence = if sequence >= MIN_SEQUENCE { sequence } else { 1 };
    digits.max(sequence)
}

/// How many characters of `rest` follow the sequence, forwards or backwards.
fn along(sequence: &str, rest: &[char]) -> usize {
    let forwards: Vec<char> = sequence.chars().collect();
    let backwards: Vec<char> = sequence.chars().rev().collect();
    let longest = |sequence: &[char]| {
        let starts = (0..sequence.len()).filter(|at| sequence.get(*at) == rest.first());
        starts
            .map(|at| sequence[at..].iter().zip(rest).take_while(|(one, other)| one == other).count())
            .max()
            .unwrap_or(0)
    };
    longest(&forwards).max(longest(&backwards))
}

/// The lengths of the listed words at the start of `rest`.
fn words(rest: &[char]) -> impl Iterator<Item = usize> {
    let mut word = String::new();
    rest.iter().take(*LONGEST_WORD).enumerate().filter_map(move |(at, c)| {
        word.push(*c);
        WORDS.contains(word.as_str()).then_some(at.saturating_add(1))
    })
}

/// The lengths of all prefixes of `rest` that repeat the end of `before`. All of them: a shorter
/// repetition may reach the beginning of a longer one, as in `9099990999`.
fn repetitions(before: &[char], rest: &[char]) -> impl Iterator<Item = usize> {
    let longest = before.len().min(rest.len());
    (1..=longest).filter(|length| before.ends_with(&rest[..*length]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ann() -> Email {
        "ann.lee@example.com".parse().unwrap()
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for password in [
            "passwordpassword",
            "Password1234",
            "P@ssw0rd2026!!",
            "Welcome-2026",
            "iloveyou1234",
            "qwertyuiop123",
            "1q2w3e4r5t6y",
            "1qaz2wsx3edc",
            "aaaaaaaaaaaa",
            "123456789012",
            "210987654321",
            "abcabcabcabc",
            "dragonmonkey12",
            "motherfucker",
            "zyxwvutsrqpo",
            "hunter2hunter2",
        ] {
            assert!(is_common(password, &ann()), "{password}");
        }
    }

    #[test]
    fn the_accounts_own_address_is_refused_and_good_for_anybody_else() {
        let bob = "bob@example.com".parse().unwrap();
        for password in ["ann.lee@example.com", "Ann.Lee@Example.com1", "ann.lee20261128", "ANN.LEE!ann.lee"]
        {
            assert!(is_common(password, &ann()), "{password}");
            assert!(!is_common(password, &bob), "{password}");
        }
    }

    #[test]
    fn what_nobody_tries_first_is_accepted() {
        for password in [
            "correct horse battery staple",
            "tr0ub4dor and three",
            "another password of mine",
            "K7v!pQ2z#nB9",
            "我的密碼很長很長很長很長",
            "monkeydragonsunshinesoccer",
        ] {
            assert!(!is_common(password, &ann()), "{password}: {}", fewest_parts(password, &ann()));
        }
    }

    #[test]
    fn a_repetition_adds_nothing_wherever_it_begins() {
        for text in ["90999", "9099990999", "909999099990999"] {
            assert_eq!(fewest_parts(text, &ann()), 1, "{text}");
        }
    }

    #[test]
    fn a_listed_password_is_one_part() {
        for word in WORDS.iter() {
            assert_eq!(fewest_parts(word, &ann()), 1, "{word}");
        }
        assert!(WORDS.len() > 4_000 && WORDS.contains("1q2w3e4r5t6y"));
    }

    proptest! {
        #[test]
        fn every_text_has_some_number_of_parts(text in "\\PC{0,128}") {
            let parts = fewest_parts(&text, &ann());
            prop_assert!(parts <= text.to_lowercase().chars().count());
        }

        #[test]
        fn case_and_repetition_add_nothing(text in "[a-z0-9]{1,12}") {
            let twice = format!("{text}{}", text.to_uppercase());
            prop_assert!(fewest_parts(&twice, &ann()) <= fewest_parts(&text, &ann()));
        }
    }
}
