use std::time::Duration;

use super::policy::{Case, matches};
use super::*;
use crate::template::model::{Condition, EventInvoke, Function, Statement};

fn stack(statements: &[(&[&str], &[&str])]) -> Stack {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Stack {
        functions: vec![Function {
            name: "api-orders".to_owned(),
            physical_name: "shop-api-orders".to_owned(),
            timeout: Duration::from_secs(10),
            memory_mib: 256,
            code_uri: String::new(),
            handler: "bootstrap".to_owned(),
            environment: std::collections::BTreeMap::new(),
            policy: statements
                .iter()
                .map(|(actions, resources)| Statement {
                    actions: owned(actions),
                    resources: owned(resources),
                    conditions: Vec::new(),
                })
                .collect(),
            reserved_concurrency: None,
            event_invoke: EventInvoke::default(),
        }],
        ..Stack::default()
    }
}

fn caller(access: &Access) -> Caller {
    access.caller(&access.key_of("api-orders").unwrap().access_key_id).unwrap()
}

#[test]
fn wildcards_match_as_iam_matches_them() {
    let resource = |pattern, text| matches(pattern, text, Case::Kept);
    assert!(resource("*", ""));
    assert!(resource("arn:*:table/Or?ersTable", "arn:aws:dynamodb:local:0:table/OrdersTable"));
    assert!(resource("a*b*c", "a-b-b-c"));
    assert!(!resource("a*b*c", "a-b-b-d"));
    assert!(!resource("table/Orders", "table/OrdersTable"));
    assert!(!resource("table/Orders?", "table/Orders"));
    assert!(!resource("Table", "table"));
    assert!(matches("dynamodb:get*", "dynamodb:GetItem", Case::Ignored));
}

#[test]
fn a_wildcard_covers_no_more_than_its_component_of_an_arn() {
    let allowed = |resource: &str, wanted: &str| {
        let access = Access::new(&stack(&[(&["dynamodb:GetItem"], &[resource])]));
        access.check(&caller(&access), "dynamodb:GetItem", wanted).is_ok()
    };
    let orders = arn::local().table("OrdersTable");
    assert!(allowed("*", &orders));
    assert!(allowed("arn:*:dynamodb:*:*:table/Orders*", &orders));
    assert!(allowed("arn:aws:dynamodb:*:*:*", &orders));
    assert!(!allowed("arn:aws:dynamodb:*", &orders));
    assert!(!allowed("arn:*OrdersTable", &orders));
    assert!(!allowed("arn:aws:*:table/OrdersTable", &orders));
}

#[test]
fn a_call_outside_the_policy_is_denied_in_the_words_of_aws() {
    let orders = arn::local().table("OrdersTable");
    let access = Access::new(&stack(&[(&["dynamodb:GetItem"], &[&orders])]));
    access.check(&caller(&access), "dynamodb:GetItem", &orders).unwrap();
    assert!(access.denied().is_empty());
    let denied = access.check(&caller(&access), "dynamodb:PutItem", &orders).unwrap_err();
    assert_eq!(access.denied(), std::slice::from_ref(&denied));
    assert_eq!(
        denied.to_string(),
        "User: arn:aws:sts::000000000000:assumed-role/shop-api-orders/shop-api-orders is not authorized to \
         perform: dynamodb:PutItem on resource: arn:aws:dynamodb:local:000000000000:table/OrdersTable because no \
         identity-based policy allows the dynamodb:PutItem action"
    );
}

#[test]
fn a_table_does_not_include_its_indexes() {
    let access = Access::new(&stack(&[(&["dynamodb:Query"], &[&arn::local().table("OrdersTable")])]));
    let index = arn::local().index("OrdersTable", "byCustomer");
    assert!(access.check(&caller(&access), "dynamodb:Query", &index).is_err());
}

#[test]
fn a_request_that_shows_nothing_of_itself_meets_no_condition() {
    let orders = arn::local().table("OrdersTable");
    let mut stack = stack(&[(&["dynamodb:UpdateItem"], &[&orders])]);
    stack.functions[0].policy[0].conditions = vec![Condition::Attributes(["note".to_owned()].into())];
    let access = Access::new(&stack);
    access.check(&caller(&access), "dynamodb:UpdateItem", &orders).unwrap_err();
    let details = Details { attributes: ["note".to_owned()].into(), return_values: None };
    let needed = Permission { details: Some(details), ..Permission::new("dynamodb:UpdateItem", &orders) };
    access.check_permission(&caller(&access), &needed).unwrap();
}

#[test]
fn what_no_call_needed_is_told_pair_by_pair() {
    let (orders, stock) = (arn::local().table("OrdersTable"), arn::local().table("StockTable"));
    let access = Access::new(&stack(&[(&["dynamodb:GetItem", "dynamodb:PutItem"], &[&orders, &stock])]));
    access.check(&caller(&access), "dynamodb:GetItem", &orders).unwrap();
    access.check(&caller(&access), "dynamodb:PutItem", &stock).unwrap();
    let pairs = |grants: Vec<Grant>| -> Vec<_> {
        grants.into_iter().map(|grant| (grant.action, grant.resource)).collect()
    };
    assert_eq!(
        pairs(access.used()),
        [("dynamodb:GetItem".to_owned(), orders.clone()), ("dynamodb:PutItem".to_owned(), stock.clone())]
    );
    assert_eq!(
        pairs(access.unused()),
        [("dynamodb:GetItem".to_owned(), stock), ("dynamodb:PutItem".to_owned(), orders)]
    );
}

#[test]
fn the_operator_may_do_everything_and_a_stranger_nothing() {
    let access = Access::new(&stack(&[]));
    let operator = access.caller(&access.operator().access_key_id).unwrap();
    access.check(&operator, "dynamodb:DeleteTable", &arn::local().table("OrdersTable")).unwrap();
    assert!(access.caller("AKIAIOSFODNN7EXAMPLE").is_none());
}

#[test]
fn no_secret_key_is_ever_printed() {
    let access = Access::new(&stack(&[]));
    assert!(!format!("{access:?}").contains(&access.operator().secret_access_key));
}

#[test]
fn a_signature_for_another_region_is_not_taken() {
    let stack = Stack { arns: arn::Arns::of("ap-east-2"), ..stack(&[]) };
    let access = Access::new(&stack);
    let signed_for = |region: &str| {
        let credential =
            format!("{}/20261120/{region}/dynamodb/aws4_request", access.operator().access_key_id);
        let signed = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=x");
        let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, signed.parse().unwrap())]);
        access.authenticate(&headers).map(|_| ())
    };
    assert_eq!(signed_for("ap-east-2"), Ok(()));
    for other in ["ap-northeast-1", "local", ""] {
        assert_eq!(signed_for(other), Err(Unauthenticated::OtherRegion), "{other}");
    }
}
