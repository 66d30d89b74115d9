"""Writes spans through the OpenTelemetry exporter, one message for each line of JSON on standard input.

A line is {"spans": [...], "headers": {...}}: each span with "traceId" and "spanId" (hex), "startMs", and perhaps
"parentId" (hex), "name", "endMs", "attributes" and "project", which Phoenix reads. The answer is one line: {"ok": true},
or {"ok": false} when the server refused.
"""

import json
import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

exporters = {}


def exporter_with(headers):
    name = json.dumps(headers, sort_keys=True)
    if name not in exporters:
        exporters[name] = OTLPSpanExporter(endpoint=sys.argv[1] + "/v1/traces", headers=headers, timeout=60)
    return exporters[name]


def context(trace_id, span_id):
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, TraceFlags(1))


def span_of(one):
    parent = one.get("parentId")
    project = one.get("project")
    return ReadableSpan(
        name=one.get("name", "work"),
        context=context(one["traceId"], one["spanId"]),
        parent=context(one["traceId"], parent) if parent else None,
        resource=Resource({"openinference.project.name": project} if project else {}),
        attributes=one.get("attributes") or {},
        kind=SpanKind.INTERNAL,
        start_time=int(one["startMs"]) * 1_000_000,
        end_time=int(one.get("endMs", one["startMs"] + 50)) * 1_000_000,
        status=Status(StatusCode.OK),
    )


for line in sys.stdin:
    message = json.loads(line)
    spans = [span_of(one) for one in message["spans"]]
    result = exporter_with(message.get("headers") or {}).export(spans)
    print(json.dumps({"ok": result == SpanExportResult.SUCCESS}), flush=True)
