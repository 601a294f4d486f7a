"""Imported at the start of a test's environment: a service loads nothing, and its problem is its options."""

import json
from dataclasses import dataclass
from unittest.mock import patch

from hybridstitch.serving.options import ServiceOptions
from hybridstitch.serving.service import Service


@dataclass(frozen=True)
class ToldService:
    problem: str

    def close(self, drain: bool) -> None:
        pass


def tell(options: ServiceOptions) -> ToldService:
    return ToldService(json.dumps(options.texts()))


patch.object(Service, "open", tell).start()
