use super::model::{BucketReplication, DeleteMarkers, ReplicationRule, Versioning};
use super::*;

const RULES: &str = "
Parameters:
  Peer: {Type: String, Default: files-tokyo}
  Second: {Type: String, Default: ''}
Conditions:
  HasSecond: !Not [!Equals [!Ref Second, '']]
Resources:
  Files:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: files-taiwan
      VersioningConfiguration: {Status: Enabled}
      ReplicationConfiguration:
        Role: !GetAtt Copier.Arn
        Rules:
          - Id: uploads
            Status: Enabled
            Priority: 1
            Filter: {Prefix: uploads/}
            DeleteMarkerReplication: {Status: Enabled}
            Destination: {Bucket: !Sub 'arn:${AWS::Partition}:s3:::${Peer}'}
          - Status: Disabled
            Priority: 3
            Filter: {Prefix: all/}
            DeleteMarkerReplication: {Status: Disabled}
            Destination: {Bucket: !Sub 'arn:aws:s3:::${Peer}'}
          - Status: Enabled
            Priority: 2
            Filter: {}
            DeleteMarkerReplication: {Status: Disabled}
            Destination: {Bucket: !Sub 'arn:aws:s3:::${Peer}'}
          - !If
            - HasSecond
            - {Status: Enabled, Priority: 4}
            - !Ref AWS::NoValue
  Copier:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - {PolicyName: own, PolicyDocument: {Statement: {Effect: Allow, Action: s3:ListBucket, Resource: !GetAtt Files.Arn}}}
  Permissions:
    Type: AWS::IAM::Policy
    Properties:
      Roles: [!Ref Copier]
      PolicyDocument: {Statement: [{Effect: Allow, Action: s3:ReplicateObject, Resource: 'arn:aws:s3:::files-tokyo/*'}]}
  Others:
    Type: AWS::IAM::Policy
    Properties:
      Roles: [other]
      PolicyDocument: {Statement: [{Effect: Allow, Action: s3:ReplicateDelete, Resource: '*'}]}
";

fn load_text(template: &str) -> Result<Stack, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, template).unwrap();
    let named = path.display().to_string();
    load(&path, &Context::default()).map_err(|error| error.to_string().replace(&named, ""))
}

/// What the rules are refused with when `from` is `to`.
fn problem(from: &str, to: &str) -> String {
    assert!(RULES.contains(from), "{from}");
    load_text(&RULES.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn versions_and_rules_are_read_from_a_bucket_the_highest_priority_first() {
    let stack = load_text(RULES).unwrap();
    let [bucket] = stack.buckets.as_slice() else { panic!("{:?}", stack.buckets) };
    assert_eq!(bucket.versioning, Versioning::On);
    let Some(BucketReplication { policy, rules }) = &bucket.replication else { panic!("{bucket:?}") };
    let rule = |prefix: &str, delete_markers| ReplicationRule {
        prefix: prefix.to_owned(),
        destination: "files-tokyo".to_owned(),
        delete_markers,
    };
    assert_eq!(*rules, [rule("", DeleteMarkers::Kept), rule("uploads/", DeleteMarkers::Copied)]);
    let allowed: Vec<_> = policy.iter().flat_map(|statement| &statement.actions).collect();
    assert_eq!(allowed, ["s3:ListBucket", "s3:ReplicateObject"]);
}

#[test]
fn a_bucket_has_no_versions_unless_it_says_so() {
    let versioning = |properties: &str| {
        let stack = load_text(&format!(
            "Resources:\n  Files: {{Type: AWS::S3::Bucket, Properties: {{{properties}}}}}"
        ));
        stack.map(|stack| stack.buckets[0].versioning)
    };
    assert_eq!(versioning(""), Ok(Versioning::Off));
    assert_eq!(versioning("VersioningConfiguration: {Status: Suspended}"), Ok(Versioning::Off));
    let wrong = versioning("VersioningConfiguration: {Status: On}").unwrap_err();
    assert!(wrong.contains("must be Enabled or Suspended"), "{wrong}");
}

#[test]
fn what_the_cloud_refuses_of_rules_is_refused() {
    let suspended = problem("{Status: Enabled}\n      Rep", "{Status: Suspended}\n      Rep");
    assert!(suspended.contains("must be Enabled, which replication needs"), "{suspended}");
    assert!(problem("Priority: 1", "Priority: 2").contains("Priority must be another one in every rule"));
    assert!(problem("            Priority: 1\n", "").contains("the property Priority is missing"));
    assert!(
        problem("            Filter: {Prefix: uploads/}\n", "").contains("the property Filter is missing")
    );
    let markers = problem("            DeleteMarkerReplication: {Status: Enabled}\n", "");
    assert!(markers.contains("the property DeleteMarkerReplication is missing"), "{markers}");
    assert!(
        problem("Status: Enabled\n            Priority: 1", "Status: On\n            Priority: 1")
            .contains("Status must be Enabled or Disabled")
    );
    assert!(problem("Default: files-tokyo", "Default: files-taiwan").contains("must be another bucket"));
    assert!(problem("arn:${AWS::Partition}:s3:::${Peer}", "${Peer}").contains("must be the ARN of a bucket"));
    let role = problem("!GetAtt Copier.Arn", "arn:aws:iam::1:role/other");
    assert!(role.contains("must be the ARN of a role of this template"), "{role}");
}

#[test]
fn what_would_be_copied_otherwise_is_refused() {
    for (from, to, what) in [
        ("Filter: {Prefix: uploads/}", "Filter: {TagFilter: {Key: a, Value: b}}", "TagFilter of the Filter"),
        ("Id: uploads", "Prefix: uploads/", "Prefix of a replication rule"),
        ("Id: uploads", "SourceSelectionCriteria: {}", "SourceSelectionCriteria of a replication rule"),
        (
            "'arn:${AWS::Partition}:s3:::${Peer}'",
            "'arn:aws:s3:::${Peer}', StorageClass: GLACIER",
            "StorageClass of the Destination",
        ),
    ] {
        let problem = problem(from, to);
        assert!(problem.contains(what) && problem.contains("can't be run locally"), "{problem}");
    }
}

#[test]
fn a_bucket_without_a_name_has_one_of_its_own_in_every_region() {
    let name = |region: &str| arn::Arns::of(region).bucket_name("FilesBucket");
    assert_eq!(name("ap-east-2"), "sam-app-filesbucket-ap-east-2");
    assert_eq!(arn::local().bucket_name("FilesBucket"), "filesbucket");
}
