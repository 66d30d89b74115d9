"""Writes traces as applications do: by the OpenTelemetry exporter, and by MLflow's own client in its default mode.

Standard input: {"url": ..., "otlp": [{"experiment", "user", "text", "traces"}], "client": [the same]}. A user may be a
number. Standard output: {"otlp": [[trace ids], ...], "client": [[trace ids], ...]}: ids as MLflow writes them.
"""

import json
import os
import sys

asked = json.load(sys.stdin)
os.environ["MLFLOW_TRACKING_URI"] = asked["url"]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402


def by_exporter(order):
    exporter = OTLPSpanExporter(
        endpoint=asked["url"] + "/v1/traces",
        headers={"x-mlflow-experiment-id": order["experiment"]},
        timeout=60,
    )
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("app")
    ids = []
    for _ in range(order["traces"]):
        with tracer.start_as_current_span("chat") as root:
            root.set_attribute("user.id", order["user"])
            root.set_attribute("input.value", order["text"])
            with tracer.start_as_current_span("llm") as child:
                child.set_attribute("output.value", order["text"])
            ids.append("tr-%032x" % root.get_span_context().trace_id)
    provider.force_flush()
    provider.shutdown()
    return ids


def by_client(order):
    import mlflow

    mlflow.set_experiment(experiment_id=order["experiment"])
    ids = []
    for _ in range(order["traces"]):
        with mlflow.start_span("chat") as root:
            mlflow.update_current_trace(metadata={"mlflow.trace.user": order["user"]})
            root.set_inputs({"text": order["text"]})
            with mlflow.start_span("llm") as child:
                child.set_outputs({"text": order["text"]})
            ids.append(root.trace_id)
    mlflow.flush_trace_async_logging()
    return ids


written = {
    "otlp": [by_exporter(order) for order in asked.get("otlp", [])],
    "client": [by_client(order) for order in asked.get("client", [])],
}
json.dump(written, sys.stdout)
