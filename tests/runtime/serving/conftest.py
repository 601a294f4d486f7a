"""What the tests of serving share: the demo pair behind a service, loaded once."""

from __future__ import annotations

import pytest

from hybridstitch.serving import Service


@pytest.fixture(scope="session")
def service(demo_engines):
    """The demo pair, served as it is by default; not to be closed."""
    with Service.load("demo", engines=demo_engines) as service:
        yield service
