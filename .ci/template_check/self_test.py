"""Whether the check finds what it is for: the template is broken once for each kind of difference.

SAM reads the broken template and the local region the right one, as if one of the two misunderstood it. The last case is
one that really was misunderstood.
"""

import pathlib
import tempfile

import sam

# Where the difference shows, what stands in the template, and what is put in its place (once).
BREAKS = [
    ("http_api.routes.GET /health", "Path: /health", "Path: /healthy"),
    ("http_api.cors.allow_credentials", "AllowCredentials: true", "AllowCredentials: false"),
    ("http_api.cors.allow_methods", "AllowMethods: [GET, POST,", "AllowMethods: [GET,"),
    ("websocket_api.routes.ping.responds", "RouteId: !Ref PingRoute", "RouteId: !Ref SendRoute"),
    ("websocket_api.routes.send.function", "functions/${WsSendFunction.Arn}", "functions/${WsConnectFunction.Arn}"),
    ("functions.ws-connect.environment.TOKEN_AUDIENCE", ": !Ref TokenAudience", ": !Ref TokenIssuer"),
    ("functions.ws-send.timeout.secs", "Timeout: 29", "Timeout: 28"),
    ("functions.ws-connect.reserved_concurrency", "SocketConcurrency, !Ref SocketConcurrency", "SocketConcurrency, !Ref JobConcurrency"),
    ("functions.ws-send.memory_mib", "MemorySize: 1024", "MemorySize: 512"),
    ("functions.ws-disconnect.policy", "Action: [dynamodb:DeleteItem]", "Action: [dynamodb:PutItem]"),
    ("functions.ws-connect.policy", "dynamodb:Attributes: [sessionId, lastActivity]", "dynamodb:Attributes: [sessionId]"),
    ("cloud_settings.ws-send.log_group", "LogGroup: !Ref WsSendLogGroup", "LogGroup: !Ref WsConnectLogGroup"),
    ("cloud_settings.ws-send.maximum_event_age_seconds", "MaximumEventAgeInSeconds: 300\n", "MaximumEventAgeInSeconds: 60\n"),
    ("cloud_settings.ws-connect.subnets", "SubnetIds: !Ref VpcSubnetIds", "SubnetIds: !Ref VpcSecurityGroupIds"),
    ("cloud_settings.api-health.kms_key", "[HasKmsKey, !Ref KmsKeyArn,", "[HasKmsKey, !Ref AlarmTopicArn,"),
    ("event_sources.ExportsQueue export-worker.maximum_concurrency", "MaximumConcurrency: 10", "MaximumConcurrency: 11"),
    ("event_sources.ExportsQueue export-worker.answers", "FunctionResponseTypes: [ReportBatchItemFailures]", "Enabled: true"),
    ("schedules.sojourn-order-cleanup.expression", "rate(1 hour)", "rate(2 hours)"),
    ("schedule_settings.sojourn-daily-report.time_zone", "Timezone: UTC", "Timezone: Asia/Tokyo"),
    ("permissions.sojourn-ws-connect", "${WebSocketApi}/*/$connect", "${WebSocketApi}/*/$disconnect"),
    ("queues.ExportsQueue.redrive.maximum_receives", "maxReceiveCount: 10", "maxReceiveCount: 9"),
    ("tables.ConnectionsTable.create", "AttributeName: connectionId, KeyType: HASH", "AttributeName: userId, KeyType: HASH"),
    ("buckets.filesbucket.cors", "AllowedMethods: [GET, HEAD, PUT]", "AllowedMethods: [GET]"),
]

# SAM takes a function in AllowOrigins for the whole object.
CORS_THAT_SAM_LOSES = """\
      CorsConfiguration:
        AllowOrigins: !Split [",", !Ref AllowedOrigins]
        AllowMethods: [GET]
        AllowCredentials: true
"""


def run(source, parameters, local, local_region, differences):
    """The differences that were not found."""
    failures = []
    for place, right, wrong in BREAKS:
        if right not in source:
            failures.append(f"{place}: the template no longer has {right!r}; correct the self-test")
            continue
        found = differences(local, sam.understood(source.replace(right, wrong, 1), parameters))
        if not any(line.startswith(place) for line in found):
            failures.append(f"{place}: {wrong!r} for {right!r} is not found, but {found}")
    return failures + lost_cors(source, parameters, local_region, differences)


def lost_cors(source, parameters, local_region, differences):
    start = source.index("      CorsConfiguration: !If\n")
    end = source.index("      DefaultRouteSettings:\n", start)
    broken = source[:start] + CORS_THAT_SAM_LOSES + source[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "template.yaml")
        path.write_text(broken)
        found = differences(local_region(path, parameters), sam.understood(broken, parameters))
    lost = any(line.startswith("http_api.cors") for line in found)
    return [] if lost else [f"http_api.cors: a block that SAM loses is not found, but {found}"]
