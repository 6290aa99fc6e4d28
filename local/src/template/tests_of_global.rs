use super::global::{Consistency, GlobalStack};
use super::*;

const TABLE: &str = "
Parameters:
  GlobalTables: {Type: String, Default: shop}
  Regions: {Type: CommaDelimitedList, Default: 'tokyo-1,singapore-1,taiwan-1'}
Resources:
  ThingsTable:
    Type: AWS::DynamoDB::GlobalTable
    Properties:
      TableName: !Sub ${GlobalTables}-things
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: thingId, AttributeType: S}]
      KeySchema: [{AttributeName: thingId, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expiresAt, Enabled: true}
      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}
      Replicas:
        - {Region: !Select [0, !Ref Regions], DeletionProtectionEnabled: true}
        - {Region: !Select [1, !Ref Regions]}
        - {Region: !Select [2, !Ref Regions]}
";

const AGREEMENT: &str = "
Resources:
  AgreementTable:
    Type: AWS::DynamoDB::GlobalTable
    Properties:
      TableName: agreement
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: subject, AttributeType: S}]
      KeySchema: [{AttributeName: subject, KeyType: HASH}]
      MultiRegionConsistency: STRONG
      GlobalTableWitnesses: [{Region: osaka-1}]
      Replicas: [{Region: tokyo-1}, {Region: singapore-1}]
";

/// A region's template that uses the global table `shop-things`.
const READER: &str = "
Parameters:
  GlobalTables: {Type: String, Default: ''}
  Label: {Type: String, Default: local}
Resources:
  ReaderFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/reader
      FunctionName: reader
      Events:
        Things:
          Type: DynamoDB
          Properties:
            Stream: !Sub arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${GlobalTables}-things/stream/${Label}
            StartingPosition: TRIM_HORIZON
";

fn read_global(template: &str) -> Result<GlobalStack, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("global.yaml");
    std::fs::write(&path, template).unwrap();
    load_global(&path, &Context::default())
        .map_err(|error| error.to_string().split_once("global.yaml").unwrap().1.to_owned())
}

fn problem(template: &str, right: &str, wrong: &str) -> String {
    assert_eq!(template.matches(right).count(), 1, "{right}");
    read_global(&template.replace(right, wrong)).expect_err(wrong)
}

/// A folder with template.yaml and global.yaml.
fn region_with(parameters: &[(&str, &str)]) -> Result<Stack, TemplateError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("global.yaml"), TABLE).unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, READER).unwrap();
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let parameters: BTreeMap<_, _> = parameters.iter().map(owned).collect();
    let global_tables = match parameters.get_key_value("GlobalTables") {
        None => Vec::new(),
        Some((name, value)) => {
            let parameters = [(name.clone(), value.clone())].into();
            let global = GlobalTemplate { path: path.with_file_name("global.yaml"), parameters };
            global.load()?.of_one_region()
        }
    };
    load(&path, &Context { parameters, global_tables, ..Context::default() })
}

#[test]
fn a_global_table_has_its_name_replicas_and_consistency() {
    let stack = read_global(TABLE).unwrap();
    let [table] = &stack.tables[..] else { panic!("one table") };
    assert_eq!((table.table.logical_id.as_str(), table.table.name.as_str()), ("ThingsTable", "shop-things"));
    assert_eq!(table.replicas, ["tokyo-1", "singapore-1", "taiwan-1"]);
    assert_eq!(table.consistency, Consistency::Eventual);
    assert_eq!(table.table.ttl_attribute.as_deref(), Some("expiresAt"));
    assert_eq!(table.table.create["KeySchema"][0]["AttributeName"], "thingId");

    let stack = read_global(AGREEMENT).unwrap();
    assert_eq!(stack.tables[0].consistency, Consistency::Strong { witness: Some("osaka-1".to_owned()) });
}

#[test]
fn a_region_has_the_tables_that_it_is_a_replica_of() {
    let both = read_global(&format!("{TABLE}{}", AGREEMENT.trim_start_matches("\nResources:\n"))).unwrap();
    let names = |tables: Vec<model::Table>| tables.into_iter().map(|table| table.name).collect::<Vec<_>>();
    assert_eq!(names(both.replicas_in("tokyo-1")), ["agreement", "shop-things"]);
    assert_eq!(names(both.replicas_in("taiwan-1")), ["shop-things"]);
    // A witness has no copy.
    assert_eq!(names(both.replicas_in("osaka-1")), Vec::<String>::new());
    assert_eq!(names(both.of_one_region()), ["agreement", "shop-things"]);
}

#[test]
fn a_global_table_that_aws_refuses_is_refused() {
    let stream = "      StreamSpecification: {StreamViewType: NEW_AND_OLD_IMAGES}\n";
    assert!(problem(TABLE, stream, "").contains("NEW_AND_OLD_IMAGES, which replication needs"));
    assert!(problem(TABLE, "NEW_AND_OLD_IMAGES", "NEW_IMAGE").contains("which replication needs"));
    assert!(problem(TABLE, "Select [1,", "Select [0,").contains("a list of different regions"));
    let name = "      TableName: !Sub ${GlobalTables}-things\n";
    assert!(problem(TABLE, name, "").contains("the property TableName is missing"));
    let ttl =
        "MultiRegionConsistency: STRONG\n      TimeToLiveSpecification: {AttributeName: a, Enabled: true}";
    assert!(problem(AGREEMENT, "MultiRegionConsistency: STRONG", ttl).contains("TTL of a strongly"));
    assert!(problem(AGREEMENT, "{Region: tokyo-1}, ", "").contains("three different regions"));
    assert!(problem(AGREEMENT, "osaka-1", "tokyo-1").contains("three different regions"));
    assert!(problem(AGREEMENT, "[{Region: osaka-1}]", "[]").contains("a list of one region"));
    assert!(problem(AGREEMENT, "      MultiRegionConsistency: STRONG\n", "").contains("a witness without"));
}

#[test]
fn what_is_not_understood_of_a_global_table_is_an_error() {
    let billing = "BillingMode: PAY_PER_REQUEST";
    let locally = format!("{billing}\n      LocalSecondaryIndexes: []");
    assert!(
        problem(TABLE, billing, &locally).contains("LocalSecondaryIndexes of AWS::DynamoDB::GlobalTable")
    );
    assert!(problem(TABLE, billing, "BillingMode: PROVISIONED").contains("must be PAY_PER_REQUEST"));
    let class = "DeletionProtectionEnabled: true, TableClass: STANDARD";
    assert!(problem(TABLE, "DeletionProtectionEnabled: true", class).contains("TableClass of a replica"));
    let table = "Type: AWS::DynamoDB::GlobalTable";
    assert!(
        problem(TABLE, table, "Type: AWS::DynamoDB::Table").contains("AWS::DynamoDB::Table in a template")
    );
}

#[test]
fn a_region_that_is_told_of_global_tables_has_them_and_reads_their_streams() {
    let stack = region_with(&[("GlobalTables", "shop")]).unwrap();
    assert_eq!(stack.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["shop-things"]);
    assert_eq!(stack.stream_sources[0].table, "shop-things");
    // The name is the parameter's, also where global.yaml has another default.
    assert_eq!(region_with(&[("GlobalTables", "other")]).unwrap().tables[0].name, "other-things");
}

#[test]
fn a_region_that_is_not_told_of_global_tables_has_none() {
    let error = region_with(&[]).unwrap_err().to_string();
    assert!(error.contains("/stream/local, which is no stream of this template"), "{error}");
    let error = region_with(&[("GlobalTables", "shop"), ("Label", "yesterday")]).unwrap_err().to_string();
    assert!(error.contains("/stream/yesterday, which is no stream of this template"), "{error}");
}
