"""Telemetry: spans and metrics for OpenTelemetry."""
