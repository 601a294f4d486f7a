"""Imported at the start of a test's environment: a service loads nothing, and its problem is the options it was given."""

import json
from dataclasses import dataclass

from hybridstitch.serving.options import ServiceOptions
from hybridstitch.serving.service import Service


@dataclass(frozen=True)
class ToldService:
    problem: str

    def close(self, drain: bool) -> None:
        pass


def tell(options: ServiceOptions) -> ToldService:
    return ToldService(json.dumps(options.texts()))


Service.open = tell
