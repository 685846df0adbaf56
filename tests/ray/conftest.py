"""A Ray of two workers on this machine, started once."""

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` installs it")


@pytest.fixture(scope="session", autouse=True)
def _ray():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()
