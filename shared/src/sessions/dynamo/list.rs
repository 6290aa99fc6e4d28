//! A user's sessions, newest first.

use std::collections::HashMap;

use serde::Deserialize;

use super::{DynamoSessions, key, parse, version_key};
use crate::deadline::Deadline;
use crate::dynamo::{DynamoError, Item, RowKey, read_rows, text};
use crate::ids::{SessionId, UserId};
use crate::sessions::{MAX_LISTED, Session, SessionError, SessionLister, SessionRows};

/// The index by user, which has the keys alone.
const BY_USER: &str = "byUser";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexedKey {
    session_id: SessionId,
}

impl DynamoSessions {
    async fn ids_of(&self, user: &UserId) -> Result<Vec<SessionId>, DynamoError> {
        let target = format!("sessions of {user}");
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_USER)
            .key_condition_expression("userId = :user")
            .expression_attribute_values(":user", text(user.as_str()))
            .scan_index_forward(false)
            .limit(MAX_LISTED);
        let page = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("Query", target.as_str(), error))?;
        let read = |item: Item| serde_dynamo::from_item(item).map(|IndexedKey { session_id }| session_id);
        page.items
            .unwrap_or_default()
            .into_iter()
            .map(|item| read(item).map_err(|error| DynamoError::unreadable("Query", target.as_str(), error)))
            .collect()
    }
}

impl SessionLister for DynamoSessions {
    async fn list(
        &self,
        user: &UserId,
        current: &SessionId,
        deadline: Deadline,
    ) -> Result<Vec<SessionRows>, SessionError> {
        // The index follows the table by milliseconds; the caller's own session is there whatever the index says.
        let mut ids = self.ids_of(user).await?;
        if !ids.contains(current) {
            ids.insert(0, current.clone());
        }
        let keys = ids.iter().map(key).chain([version_key(user)]);
        let keys = keys.map(|key| RowKey { table: &self.table, key }).collect();
        let rows = read_rows(&self.client, keys, deadline).await?.take(&self.table);
        let (sessions, version): (Vec<Item>, Vec<Item>) =
            rows.into_iter().partition(|row| row.contains_key("userId"));
        let token_version = parse(version)?.token_version;
        let mut sessions: HashMap<SessionId, Session> = sessions
            .into_iter()
            .map(|row| super::parse_session(row).map(|session| (session.id.clone(), session)))
            .collect::<Result<_, _>>()?;
        let found = ids.iter().filter_map(|id| sessions.remove(id));
        Ok(found.map(|session| SessionRows { session: Some(session), token_version }).collect())
    }
}
