"""Spans and metrics for OpenTelemetry, here for Prometheus.

    pip install "modelhub-chains[otel]" opentelemetry-sdk opentelemetry-exporter-prometheus

The app sets OpenTelemetry up as it does for everything else; nothing is said of it in the file. Prompts and answers are
not recorded (`telemetry: {content: true}` in the file would put them on spans, never on metrics).
"""

import asyncio
from pathlib import Path

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from modelhub import Hub

CONFIG = Path(__file__).with_name("models.yaml")
SHOWN = {
    "gen_ai_client_token_usage": "sum",
    "gen_ai_client_operation_duration_seconds": "count",
    "modelhub_call_duration_seconds": "count",
}
LABELS = ("modelhub_requested", "modelhub_model", "error_type", "gen_ai_token_type")


async def main() -> None:
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    # In an app: prometheus_client.start_http_server(9464), and Prometheus comes and reads.
    async with Hub.from_yaml(CONFIG) as hub:
        for report in ("first report", "second report"):
            await hub.get("job")(f"Summarise: {report}")
    for family in REGISTRY.collect():
        for sample in family.samples:
            if family.name in SHOWN and sample.name == f"{family.name}_{SHOWN[family.name]}":
                labels = ", ".join(f"{name}={sample.labels[name]}" for name in LABELS if sample.labels.get(name))
                print(f"{sample.name} {sample.value:.0f} {labels}")


asyncio.run(main())
