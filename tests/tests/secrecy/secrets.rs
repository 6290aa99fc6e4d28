//! Secrets, the ways in which programs spell them, and the search for any piece of any spelling.

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sojourn_tests::{Answer, fresh_key};

/// So many characters of a secret in a row are a leak. Fewer would be found by chance, as parts of
/// ids.
const PIECE: usize = 12;

/// What no log may hold.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Each spelling, and what it is a spelling of.
    spellings: Vec<(String, String)>,
}

/// Text that occurs nowhere else: the random half of an id.
pub(crate) fn random() -> String {
    fresh_key()[10..].to_owned()
}

impl Secrets {
    /// A password, or anything else that is secret as a whole.
    pub(crate) fn keep(&mut self, what: &str, secret: &str) {
        let in_json = json!(secret).to_string();
        let encoded = percent_encoded(secret);
        for spelling in [
            secret.to_owned(),
            encoded.to_lowercase(),
            encoded,
            in_json[1..in_json.len() - 1].to_owned(),
            json!(in_json).to_string(),
            format!("{secret:?}"),
        ] {
            self.spellings.push((what.to_owned(), spelling));
        }
        self.keep_bytes(what, secret.as_bytes());
    }

    /// A token of parts between dots: the last part is secret, and of a signed token what it says
    /// as well. Ids in front of it name things, and are no secrets.
    pub(crate) fn keep_token(&mut self, what: &str, token: &str) {
        let parts: Vec<&str> = token.split('.').collect();
        let secret = match parts[..] {
            [_, claims, signature] => vec![claims, signature],
            [.., last] => vec![last],
            [] => Vec::new(),
        };
        for part in secret {
            self.keep(what, part);
            self.keep_bytes(what, &URL_SAFE_NO_PAD.decode(part).unwrap());
        }
    }

    /// The signatures of all links in a document.
    pub(crate) fn keep_links(&mut self, document: &Value) {
        match document {
            Value::String(text) => {
                let signature = text.split("X-Amz-Signature=").nth(1).and_then(|rest| rest.split('&').next());
                if let Some(signature) = signature {
                    self.keep("link", signature);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.keep_links(item)),
            Value::Object(members) => members.values().for_each(|member| self.keep_links(member)),
            _ => {}
        }
    }

    /// All that an answer hands out.
    pub(crate) fn keep_answer(&mut self, answer: &Answer) {
        for member in ["accessToken", "refreshToken", "deviceToken"] {
            if let Some(token) = answer.body[member].as_str() {
                self.keep_token(member, token);
            }
        }
        if let Some(cookie) = cookie_of(answer) {
            self.keep_token("cookie", &cookie);
        }
    }

    /// The forms that bytes are printed in: hexadecimal, base64 in both alphabets, and Rust's list.
    fn keep_bytes(&mut self, what: &str, bytes: &[u8]) {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        let list = format!("{bytes:?}");
        for spelling in [hex.to_uppercase(), hex, STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), list]
        {
            self.spellings.push((what.to_owned(), spelling));
        }
    }

    /// The lines of `log` that hold a piece of a secret, with what it is. They are shown to whoever
    /// reads a failed test.
    pub(crate) fn leaks<'a>(&self, log: &'a str) -> Vec<(&str, &'a str)> {
        let mut pieces: HashMap<&[u8], &str> = HashMap::new();
        for (what, spelling) in &self.spellings {
            let size = PIECE.min(spelling.len());
            pieces.extend(spelling.as_bytes().windows(size).map(|piece| (piece, what.as_str())));
        }
        let mut sizes: Vec<usize> = pieces.keys().map(|piece| piece.len()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let in_line = |line: &'a str| {
            let found = |size: &usize| line.as_bytes().windows(*size).find_map(|piece| pieces.get(piece));
            sizes.iter().find_map(found).map(|what| (*what, line))
        };
        log.lines().filter_map(in_line).collect()
    }
}

/// As in a URL or a form: everything but letters and digits.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        encoded
    })
}

/// The value of the cookie that an answer sets.
pub(crate) fn cookie_of(answer: &Answer) -> Option<String> {
    let (_, value) = answer.header("set-cookie")?.split_once("__Host-SESSION=")?;
    value.split(';').next().filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Whether the search finds what it is there for: `None` if so.
pub(crate) fn missed() -> Option<String> {
    let mut secrets = Secrets::default();
    let password = "S\u{e4}ge \"nie\" + 100 %";
    let token = format!("ses_01JD.{}", URL_SAFE_NO_PAD.encode([251; 32]));
    secrets.keep("password", password);
    secrets.keep_token("token", &token);
    let said: [(String, &str); 8] = [
        (format!("refused: {password}"), "password"),
        (json!({"detail": password}).to_string(), "password"),
        (json!(json!({"detail": password}).to_string()).to_string(), "password"),
        ("GET /?p=S%C3%A4ge%20%22nie".to_owned(), "password"),
        (format!("Basic {}", STANDARD.encode(password)), "password"),
        (format!("cut short: {}…", &token[..token.len() / 2]), "token"),
        (format!("bytes {:?}", [251; 32]), "token"),
        (Value::from("fbfbfbfbfbfbfbfb").to_string(), "token"),
    ];
    let is_missed =
        |(line, what): &&(String, &str)| !secrets.leaks(line).iter().any(|(kind, _)| kind == what);
    let innocent = "{\"route\":\"POST /sessions\",\"sessionId\":\"ses_01JD\",\"status\":401}";
    let false_alarm = (!secrets.leaks(innocent).is_empty()).then(|| innocent.to_owned());
    said.iter().find(is_missed).map(|(line, _)| line.clone()).or(false_alarm)
}
