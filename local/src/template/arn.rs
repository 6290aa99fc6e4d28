//! ARNs of the local region's resources, as template.yaml's policies resolve to.

/// `AWS::Region` here, as a client has to sign for it.
pub use super::model::REGION;
use super::model::{ACCOUNT, STACK_NAME};

/// The stack itself: what `AWS::StackId` gives.
pub(super) fn stack() -> String {
    format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK_NAME}/local")
}

/// A table: what `Fn::GetAtt Table.Arn` gives.
pub fn table(name: &str) -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}")
}

/// An index of a table: what Query and Scan on it need.
pub fn index(table_name: &str, index_name: &str) -> String {
    format!("{}/index/{index_name}", table(table_name))
}

/// The last part of a stream's ARN. AWS has the time at which the stream was enabled there.
pub const STREAM_LABEL: &str = "local";

/// A table's stream: what `Fn::GetAtt Table.StreamArn` gives.
pub fn stream(table_name: &str) -> String {
    format!("{}/stream/{STREAM_LABEL}", table(table_name))
}

/// A bucket.
pub fn bucket(name: &str) -> String {
    format!("arn:aws:s3:::{name}")
}

/// An object in a bucket.
pub fn object(bucket_name: &str, key: &str) -> String {
    format!("{}/{key}", bucket(bucket_name))
}

/// A secret: what `Ref` gives. AWS ends it with six characters of its own choice; here it follows from the name.
pub fn secret(name: &str) -> String {
    format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}")
}

/// A queue: what `Fn::GetAtt Queue.Arn` gives.
pub fn queue(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// A function, by its physical name.
pub fn function(physical_name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{physical_name}")
}

/// What `execute-api:ManageConnections` is needed on; `method` is POST, GET or DELETE.
pub fn connection(api_id: &str, stage: &str, method: &str, connection_id: &str) -> String {
    format!("arn:aws:execute-api:{REGION}:{ACCOUNT}:{api_id}/{stage}/{method}/@connections/{connection_id}")
}

/// The session of a function's role, as AWS names the caller in its refusals.
pub(crate) fn principal(physical_name: &str) -> String {
    format!("arn:aws:sts::{ACCOUNT}:assumed-role/{physical_name}/{physical_name}")
}

/// A topic: what `Ref` gives.
pub(super) fn topic(name: &str) -> String {
    format!("arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
}

/// A role: what `Fn::GetAtt Role.Arn` gives.
pub(super) fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// A log group: what `Fn::GetAtt LogGroup.Arn` gives.
pub(super) fn log_group(name: &str) -> String {
    format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*")
}

/// A schedule of the default group.
pub(crate) fn schedule(name: &str) -> String {
    format!("arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{name}")
}
