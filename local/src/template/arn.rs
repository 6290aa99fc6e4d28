//! ARNs of the local region's resources, as the policies of a template resolve to.

use std::sync::Arc;

/// `AWS::AccountId` here.
pub const ACCOUNT: &str = "000000000000";

/// The event bus that every account has.
pub const DEFAULT_BUS: &str = "default";

/// `AWS::StackName` where nothing else is given: the name that `sam deploy --guided` suggests.
pub const DEFAULT_STACK: &str = "sam-app";

/// `AWS::Region` of a stack that runs alone, where nothing else is given.
pub const LOCAL: &str = "local";

/// Names the resources of one stack in one region: makes their ARNs. Functions of this module name
/// the resources that have no region in their ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arns {
    region: Arc<str>,
    stack: Arc<str>,
}

/// Those of a stack that runs alone, with the default names.
pub fn local() -> Arns {
    Arns::of(LOCAL)
}

impl Default for Arns {
    fn default() -> Self {
        local()
    }
}

impl Arns {
    /// Those of the stack [`DEFAULT_STACK`] in the region that AWS calls `region`.
    pub fn of(region: &str) -> Self {
        Self { region: region.into(), stack: DEFAULT_STACK.into() }
    }

    /// The same of the stack `stack`.
    #[must_use]
    pub fn in_stack(self, stack: &str) -> Self {
        Self { stack: stack.into(), ..self }
    }

    /// `AWS::StackName`.
    pub fn stack_name(&self) -> &str {
        &self.stack
    }

    /// `AWS::Region`, as a client has to sign for it.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// A resource whose ARN has both region and account.
    fn arn(&self, service: &str, resource: impl std::fmt::Display) -> String {
        format!("arn:aws:{service}:{}:{ACCOUNT}:{resource}", self.region)
    }

    /// The stack itself: what `AWS::StackId` gives.
    pub(super) fn stack(&self) -> String {
        self.arn("cloudformation", format_args!("stack/{}/local", self.stack))
    }

    /// A table: what `Fn::GetAtt Table.Arn` gives.
    pub fn table(&self, name: &str) -> String {
        self.arn("dynamodb", format_args!("table/{name}"))
    }

    /// An index of a table: what Query and Scan on it need.
    pub fn index(&self, table_name: &str, index_name: &str) -> String {
        self.arn("dynamodb", format_args!("table/{table_name}/index/{index_name}"))
    }

    /// A table's stream: what `Fn::GetAtt Table.StreamArn` gives.
    pub fn stream(&self, table_name: &str) -> String {
        self.arn("dynamodb", format_args!("table/{table_name}/stream/{STREAM_LABEL}"))
    }

    /// The name of a bucket that the template gives none: what `Ref` gives. Bucket names are unique
    /// in all regions and have no capitals. `CloudFormation` makes them of the stack's name, the
    /// logical id and random characters; here the region takes the place of the random characters.
    pub fn bucket_name(&self, logical_id: &str) -> String {
        let id = logical_id.to_lowercase();
        match self.region() {
            LOCAL => id,
            region => format!("{}-{id}-{region}", self.stack),
        }
    }

    /// A secret: what `Ref` gives. AWS ends it with six characters of its own choice; here it
    /// follows from the name.
    pub fn secret(&self, name: &str) -> String {
        self.arn("secretsmanager", format_args!("secret:{name}"))
    }

    /// A queue: what `Fn::GetAtt Queue.Arn` gives.
    pub fn queue(&self, name: &str) -> String {
        self.arn("sqs", name)
    }

    /// A function, by its physical name.
    pub fn function(&self, physical_name: &str) -> String {
        self.arn("lambda", format_args!("function:{physical_name}"))
    }

    /// What `execute-api:ManageConnections` is needed on; `method` is POST, GET or DELETE.
    pub fn connection(&self, api_id: &str, stage: &str, method: &str, connection_id: &str) -> String {
        self.arn("execute-api", format_args!("{api_id}/{stage}/{method}/@connections/{connection_id}"))
    }

    /// What API Gateway invokes a function for: any stage of an API, a method and a path.
    pub(super) fn route(&self, api_id: &str, method: &str, path: &str) -> String {
        self.arn("execute-api", format_args!("{api_id}/*/{method}{path}"))
    }

    /// A topic: what `Ref` gives.
    pub fn topic(&self, name: &str) -> String {
        self.arn("sns", name)
    }

    /// A log group: what `Fn::GetAtt LogGroup.Arn` gives.
    pub(super) fn log_group(&self, name: &str) -> String {
        self.arn("logs", format_args!("log-group:{name}:*"))
    }

    /// A schedule of the default group.
    pub fn schedule(&self, name: &str) -> String {
        self.arn("scheduler", format_args!("schedule/default/{name}"))
    }

    /// An event bus: what `Fn::GetAtt EventBus.Arn` gives.
    pub fn event_bus(&self, name: &str) -> String {
        self.arn("events", format_args!("event-bus/{name}"))
    }

    /// A rule: what `Fn::GetAtt Rule.Arn` gives. Those of the bus `default` are named without their
    /// bus.
    pub fn rule(&self, bus: &str, name: &str) -> String {
        let bus = if bus == DEFAULT_BUS { String::new() } else { format!("{bus}/") };
        self.arn("events", format_args!("rule/{bus}{name}"))
    }
}

/// The last part of a stream's ARN. AWS has the time at which the stream was enabled there.
pub const STREAM_LABEL: &str = "local";

/// A bucket.
pub fn bucket(name: &str) -> String {
    format!("arn:aws:s3:::{name}")
}

/// An object in a bucket.
pub fn object(bucket_name: &str, key: &str) -> String {
    format!("{}/{key}", bucket(bucket_name))
}

/// Whether an ARN is a queue's.
pub(super) fn is_queue(arn: &str) -> bool {
    arn.starts_with("arn:aws:sqs:")
}

/// The session of a function's role, as AWS names the caller in its refusals.
pub(crate) fn principal(physical_name: &str) -> String {
    format!("arn:aws:sts::{ACCOUNT}:assumed-role/{physical_name}/{physical_name}")
}

/// A role: what `Fn::GetAtt Role.Arn` gives.
pub(super) fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// A subscription of a topic, by its logical id. AWS has a UUID there.
pub fn subscription(topic_arn: &str, id: &str) -> String {
    format!("{topic_arn}:{id}")
}
