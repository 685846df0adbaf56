"""Telemetry: calls as OpenTelemetry's spans and metrics."""
