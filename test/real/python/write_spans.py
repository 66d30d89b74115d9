"""Writes spans through the OpenTelemetry exporter, one batch for each line of JSON on standard input.

A line is {"spans": [...]}: each with "project", "traceId" and "spanId" (hex), "parentId" (hex or null), "name",
"startMs", "endMs" and "attributes". The answer is one line: {"ok": true}, or {"ok": false} when the server refused.
"""

import json
import sys

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

exporter = OTLPSpanExporter(endpoint=sys.argv[1] + "/v1/traces", timeout=60)


def context(trace_id, span_id):
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, TraceFlags(1))


def span_of(one):
    parent = one.get("parentId")
    return ReadableSpan(
        name=one["name"],
        context=context(one["traceId"], one["spanId"]),
        parent=context(one["traceId"], parent) if parent else None,
        resource=Resource({"openinference.project.name": one["project"]}),
        attributes=one.get("attributes") or {},
        kind=SpanKind.INTERNAL,
        start_time=int(one["startMs"]) * 1_000_000,
        end_time=int(one["endMs"]) * 1_000_000,
        status=Status(StatusCode.OK),
    )


for line in sys.stdin:
    spans = [span_of(one) for one in json.loads(line)["spans"]]
    result = exporter.export(spans)
    print(json.dumps({"ok": result == SpanExportResult.SUCCESS}), flush=True)
