//! The attributes that an update or condition expression names: what IAM knows as
//! `dynamodb:Attributes`.
//!
//! Top-level ones only: `#a.b[3]` names what `#a` stands for. A word is one of them unless it
//! - goes on with a path (`.b`, `[3]`),
//! - stands for a value (`:now`),
//! - is a keyword, which no attribute is called without an alias,
//! - is a function: `(` follows.
//!
//! An unknown word counts as an attribute, so that an expression that isn't understood is not
//! allowed.

/// All of them are reserved words.
const KEYWORDS: [&str; 9] = ["SET", "REMOVE", "ADD", "DELETE", "AND", "OR", "NOT", "BETWEEN", "IN"];

/// What stands between words. Aliases and values also begin one.
const SIGNS: &str = "()[].,=<>+-";

/// The attributes in `expression`, aliases as they are written.
pub(super) fn top_level(expression: &str) -> Vec<&str> {
    let mut attributes = Vec::new();
    let mut sign_before = None;
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let after_first = &rest[first.len_utf8()..];
        if SIGNS.contains(first) {
            (sign_before, rest) = (Some(first), after_first.trim_start());
            continue;
        }
        let end = after_first
            .find(|next: char| next.is_whitespace() || SIGNS.contains(next) || "#:".contains(next));
        let (word, after) = rest.split_at(end.map_or(rest.len(), |end| first.len_utf8() + end));
        rest = after.trim_start();
        let within_path = matches!(sign_before, Some('.' | '['));
        let keyword = KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword));
        if !within_path && !keyword && first != ':' && !rest.starts_with('(') {
            attributes.push(word);
        }
        sign_before = None;
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_named_by_every_clause_of_an_update() {
        assert_eq!(
            top_level("SET a = if_not_exists(b, :zero) + :one, #c=d REMOVE e,#f ADD g :n delete h :s"),
            ["a", "b", "#c", "d", "e", "#f", "g", "h"]
        );
    }

    #[test]
    fn an_attribute_is_named_by_every_kind_of_condition() {
        assert_eq!(
            top_level(
                "attribute_exists (a) AND NOT(b<>:b OR size(c) >= :c) and d BETWEEN :x AND e AND f IN(:y,#g)"
            ),
            ["a", "b", "c", "d", "e", "f", "#g"]
        );
    }

    #[test]
    fn a_path_names_the_attribute_that_it_begins_with() {
        assert_eq!(top_level("SET #a.b[3] . c = d [0].#e, f = :v.g"), ["#a", "d", "f"]);
    }

    #[test]
    fn no_missing_space_hides_an_attribute() {
        assert_eq!(top_level("SET a=:a REMOVE#b"), ["a", "#b"]);
    }
}
