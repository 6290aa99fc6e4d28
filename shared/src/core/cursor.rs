//! Page cursors: opaque to clients, and validated on return.
//!
//! A cursor is the key of the last item of a page, as URL-safe base64 of JSON. It names its
//! listing, so that another listing refuses it. It grants no access: the listing's partition key
//! always comes from the caller's identity, never from the cursor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest cursor that is read, in bytes. Real ones are shorter than 200.
pub const MAX_CURSOR_BYTES: usize = 1_024;
/// Items on a page unless the client sets a limit.
pub const DEFAULT_PAGE_SIZE: u32 = 20;
/// Most items on a page.
pub const MAX_PAGE_SIZE: u32 = 100;

/// Text that is not a cursor of this listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this list")]
pub struct InvalidCursor;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    list: String,
    after: T,
}

/// Rows to ask DynamoDB for when a page shows `limit` items. The extra row shows whether there is a
/// next page: DynamoDB returns a last evaluated key even when the page ends at the end of the list.
pub fn rows_to_read(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1)
}

/// Cuts the rows to the page. Returns the last row of the page if there are more.
pub fn cut<T>(rows: &mut Vec<T>, limit: u32) -> Option<&T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last()
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Writes the cursor of `list` that points after `after`.
pub fn encode<T: Serialize>(list: &str, after: &T) -> Result<String, serde_json::Error> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Envelope { list: list.to_owned(), after })?))
}

/// Reads a cursor of `list`.
pub fn decode<T: for<'de> Deserialize<'de>>(list: &str, text: &str) -> Result<T, InvalidCursor> {
    if text.len() > MAX_CURSOR_BYTES {
        return Err(InvalidCursor);
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let envelope: Envelope<T> = serde_json::from_slice(&json).map_err(|_| InvalidCursor)?;
    if envelope.list == list { Ok(envelope.after) } else { Err(InvalidCursor) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_of_one_list_is_refused_by_another() {
        let cursor = encode("orders", &"ord_1").unwrap();
        assert_eq!(decode::<String>("orders", &cursor), Ok("ord_1".to_owned()));
        assert_eq!(decode::<String>("products", &cursor), Err(InvalidCursor));
    }

    #[test]
    fn a_page_has_a_next_one_only_if_a_row_is_left() {
        let mut rows = vec![1, 2, 3];
        assert_eq!(cut(&mut rows, 2), Some(&2));
        assert_eq!((rows.len(), cut(&mut rows, 2)), (2, None));
        assert_eq!(rows_to_read(2), 3);
    }

    proptest! {
        #[test]
        fn any_key_survives_the_round_trip(key in "\\PC{0,100}") {
            prop_assert_eq!(decode::<String>("list", &encode("list", &key).unwrap()), Ok(key));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,300}") {
            prop_assert!(decode::<String>("list", &text).is_err());
        }
    }
}
