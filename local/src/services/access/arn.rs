//! ARNs of the local region's resources, as template.yaml's policies resolve to.

use crate::template::model::ACCOUNT;
/// `AWS::Region` here, as a client has to sign for it.
pub use crate::template::model::REGION;

/// A table: what `Fn::GetAtt Table.Arn` gives.
pub fn table(name: &str) -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}")
}

/// An index of a table: what Query and Scan on it need.
pub fn index(table_name: &str, index_name: &str) -> String {
    format!("{}/index/{index_name}", table(table_name))
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
pub(super) fn principal(physical_name: &str) -> String {
    format!("arn:aws:sts::{ACCOUNT}:assumed-role/{physical_name}/{physical_name}")
}
