"""The names are the conventions'."""

import warnings
from pathlib import Path

from modelhub.telemetry import names


def ours(start):
    return {value for value in vars(names).values() if isinstance(value, str) and value.startswith(start)}


def test_every_gen_ai_name_is_one_of_the_conventions():
    """None is made up: the SDK's own list has them all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
        from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
        from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
    modules = (gen_ai_attributes, gen_ai_metrics, error_attributes, http_attributes, server_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    assert ours("gen_ai.")
    assert ours(("gen_ai.", "error.", "http.", "server.")) <= known


def test_no_name_is_written_elsewhere():
    """Whoever follows the conventions changes one file."""
    package = Path(names.__file__).parents[1]
    found = [path.name for path in package.rglob("*.py") if '"gen_ai.' in path.read_text(encoding="utf-8")]
    assert found == ["names.py"]
