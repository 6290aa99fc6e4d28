use serde_json::{Value, json};

use super::*;
use crate::services::access::Access;
use crate::template::{self, arn};

fn needs(operation: &str, body: Value) -> Vec<String> {
    let outline: Outline = serde_json::from_value(body).unwrap();
    let permissions = outline.permissions(operation, &arn::local()).into_iter();
    permissions.map(|needed| format!("{} {}", needed.action, needed.resource)).collect()
}

#[test]
fn a_transaction_needs_the_action_of_each_entry() {
    let entry = |table: &str| json!({"TableName": table});
    let body = json!({"TransactItems": [
        {"Put": entry("Orders")},
        {"Update": entry("Stock")},
        {"Update": entry("Stock")},
        {"ConditionCheck": entry("Locks")},
        {"Delete": entry("Carts")},
    ]});
    assert_eq!(
        needs("TransactWriteItems", body),
        [
            "dynamodb:ConditionCheckItem arn:aws:dynamodb:local:000000000000:table/Locks",
            "dynamodb:DeleteItem arn:aws:dynamodb:local:000000000000:table/Carts",
            "dynamodb:PutItem arn:aws:dynamodb:local:000000000000:table/Orders",
            "dynamodb:UpdateItem arn:aws:dynamodb:local:000000000000:table/Stock",
        ]
    );
}

#[test]
fn a_query_on_an_index_needs_the_index_and_not_the_table() {
    assert_eq!(
        needs("Query", json!({"TableName": "Connections", "IndexName": "byUser"})),
        ["dynamodb:Query arn:aws:dynamodb:local:000000000000:table/Connections/index/byUser"]
    );
}

#[test]
fn a_batch_read_is_an_action_of_its_own_on_every_table() {
    let body = json!({"RequestItems": {"Products": {"Keys": []}, "Sessions": {"Keys": []}}});
    assert_eq!(
        needs("BatchGetItem", body),
        [
            "dynamodb:BatchGetItem arn:aws:dynamodb:local:000000000000:table/Products",
            "dynamodb:BatchGetItem arn:aws:dynamodb:local:000000000000:table/Sessions",
        ]
    );
}

#[test]
fn a_table_named_by_its_arn_is_the_same_table() {
    let by_arn = json!({"TableName": "arn:aws:dynamodb:local:000000000000:table/Orders"});
    assert_eq!(needs("GetItem", by_arn), needs("GetItem", json!({"TableName": "Orders"})));
}

#[test]
fn what_names_no_table_is_needed_on_everything() {
    assert_eq!(needs("ListTables", json!({})), ["dynamodb:ListTables *"]);
}

/// One function that may stamp a session, and do nothing else to it.
const TEMPLATE: &str = r#"
Resources:
  Shop:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/shop
      Policies:
        - Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: [dynamodb:UpdateItem]
              Resource: !Sub arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/Sessions
              Condition:
                ForAllValues:StringEquals:
                  dynamodb:Attributes: [sessionId, lastActivity]
                StringEquals:
                  dynamodb:ReturnValues: [NONE, UPDATED_OLD, UPDATED_NEW]
"#;

fn allowed(operation: &str, body: Value) -> bool {
    allowed_by(TEMPLATE, operation, body)
}

fn allowed_by(template: &str, operation: &str, body: Value) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, template).unwrap();
    let access = Access::new(&template::load(&path, &template::Context::default()).unwrap());
    let caller = access.caller(&access.key_of("shop").unwrap().access_key_id).unwrap();
    let outline: Outline = serde_json::from_value(body).unwrap();
    let needed = outline.permissions(operation, &arn::local());
    let allowed = needed.iter().all(|needed| access.check_permission(&caller, needed).is_ok());
    assert_eq!(access.unused().is_empty(), allowed, "a permission counts as used by what it allows");
    allowed
}

/// The stamp of a session, with `changes` to the request. `null` takes a member away.
fn stamp(changes: &Value) -> Value {
    let mut body = json!({
        "TableName": "Sessions",
        "Key": {"sessionId": {"S": "ses_1"}},
        "UpdateExpression": "SET lastActivity = :now",
        "ConditionExpression": "attribute_exists(sessionId) AND lastActivity <= :due",
        "ExpressionAttributeValues": {":now": {"S": "now"}, ":due": {"S": "due"}},
        "ReturnValues": "NONE",
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Whether the stamp with `changes` is allowed, which is the same alone and in a transaction.
fn stamp_allowed(changes: &Value) -> bool {
    let alone = allowed("UpdateItem", stamp(changes));
    let entry = json!({"TransactItems": [{"Update": stamp(changes)}]});
    assert_eq!(allowed("TransactWriteItems", entry), alone);
    alone
}

#[test]
fn an_update_of_the_attributes_that_a_condition_lists_is_allowed() {
    assert!(stamp_allowed(&json!({})));
    let aliased =
        json!({"UpdateExpression": "SET #a = :now", "ExpressionAttributeNames": {"#a": "lastActivity"}});
    assert!(stamp_allowed(&aliased));
    assert!(stamp_allowed(&json!({"ReturnValues": "UPDATED_NEW"})));
}

#[test]
fn an_update_that_names_another_attribute_is_refused_wherever_it_does() {
    for changes in [
        json!({"UpdateExpression": "SET lastActivity = :now, cookieHash = :now"}),
        json!({"UpdateExpression": "SET lastActivity = :now REMOVE tokens.family[0]"}),
        json!({"UpdateExpression": "REMOVE revokedAt"}),
        json!({"UpdateExpression": "SET lastActivity = cookieHash"}),
        json!({"ConditionExpression": "begins_with(cookieHash, :now)"}),
        json!({"UpdateExpression": null, "AttributeUpdates": {"cookieHash": {"Action": "DELETE"}}}),
        json!({"ConditionExpression": null, "Expected": {"cookieHash": {"Exists": false}}}),
        json!({"Key": {"sessionId": {"S": "ses_1"}, "part": {"N": "1"}}}),
    ] {
        assert!(!stamp_allowed(&changes), "{changes}");
    }
}

#[test]
fn an_alias_hides_no_attribute() {
    let hidden = json!({
        "UpdateExpression": "SET #lastActivity = :now",
        "ExpressionAttributeNames": {"#lastActivity": "cookieHash"},
    });
    assert!(!stamp_allowed(&hidden));
    assert!(!stamp_allowed(&json!({"UpdateExpression": "SET #nothing = :now"})));
}

#[test]
fn an_update_that_returns_the_whole_row_is_refused() {
    for whole in ["ALL_NEW", "ALL_OLD"] {
        assert!(!stamp_allowed(&json!({"ReturnValues": whole})), "{whole}");
    }
}

#[test]
fn an_update_that_does_not_say_what_it_returns_is_refused_unless_the_condition_says_if_exists() {
    assert!(!stamp_allowed(&json!({"ReturnValues": null})));
    let lenient = TEMPLATE.replace(
        "StringEquals:\n                  dynamodb:R",
        "StringEqualsIfExists:\n                  dynamodb:R",
    );
    assert_ne!(lenient, TEMPLATE);
    assert!(allowed_by(&lenient, "UpdateItem", stamp(&json!({"ReturnValues": null}))));
    assert!(!allowed_by(&lenient, "UpdateItem", stamp(&json!({"ReturnValues": "ALL_NEW"}))));
}

#[test]
fn a_condition_on_one_update_allows_no_other_request() {
    assert!(!allowed("DeleteItem", stamp(&json!({}))));
    assert!(!allowed("UpdateItem", stamp(&json!({"TableName": "Users"}))));
}
