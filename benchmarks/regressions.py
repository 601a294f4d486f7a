"""Whether a fresh `hybridstitch-trt bench` is worse than a stored one, by more than both of them scatter.

    python -m benchmarks.regressions STORED.json FRESH.json            (make bench-check)

Only ratios are compared, never seconds: each method's speed-up over large, its overhead, its closeness to the large
model, and a masked call's share of the seconds over its share of the operations. Exit code 1, and one line for each
that got worse; 2 where the two cannot be compared.

What counts as noise: of a median, half the distance of its quartiles in both measurements, added in squares, and at
least LEAST of the stored value (of an overhead: LEAST_OVERHEAD of the run). Closeness is compared picture by picture
where both drew the same ones: twice the standard error of the differences' mean, and at least LEAST_DB.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Any

from hybridstitch.method.errors import HybridStitchError

LEAST, LEAST_OVERHEAD, LEAST_DB = 0.03, 0.01, 0.05
SAME = ("pair", "backend", "size", "steps", "guidance")


@dataclass(frozen=True)
class Comparison:
    """A value then and now. worse_by: how much worse it is now; below 0 it is better."""

    name: str
    stored: float
    fresh: float
    worse_by: float
    noise: float

    @property
    def regressed(self) -> bool:
        return self.worse_by > self.noise

    def __str__(self) -> str:
        values = f"{self.fresh:.4g}, stored {self.stored:.4g}"
        return f"{self.name}: {values}; worse by {self.worse_by:.2g}, noise {self.noise:.2g}"


def compare(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> Iterator[Comparison]:
    """Every ratio that both have.

    Raises:
        HybridStitchError: they measured different things.
    """
    for key in SAME:
        if stored[key] != fresh[key]:
            raise HybridStitchError(f"{key} is {fresh[key]} and was {stored[key]}: the two cannot be compared")
    same_cases = stored["cases"] == fresh["cases"]
    for name in stored["methods"].keys() & fresh["methods"].keys():
        yield from _of_method(name, stored["methods"][name], fresh["methods"][name], same_cases)
    now = {call["tokens"]: call for call in fresh["masked_call"]}
    for call in stored["masked_call"]:
        if call["tokens"] in now and call["flops_share"] and now[call["tokens"]]["flops_share"]:
            yield _of_masked_call(call, now[call["tokens"]])


def missing(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """What was measured then and not now, but for the controls, whose steps follow from the machine's times."""
    methods = [name for name in stored["methods"] if name not in fresh["methods"] and name.partition("@")[0] != "large"]
    tokens = {call["tokens"] for call in fresh["masked_call"]}
    calls = [f"masked call of {call['tokens']}" for call in stored["masked_call"] if call["tokens"] not in tokens]
    return [f"{name} was measured then and is missing now" for name in (*methods, *calls)]


def other_machine(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> str | None:
    """That the machines differ, in words; ratios are compared all the same."""
    if stored["machine"] == fresh["machine"]:
        return None
    then, now = (", ".join(str(value) for value in bench["machine"].values()) for bench in (stored, fresh))
    return f"another machine ({now}) than the stored one ({then}): its ratios may differ for that alone"


def changed(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """The methods whose settings are others now; they are compared all the same."""
    both = [name for name in stored["methods"] if name in fresh["methods"] and name != "large@fewer"]
    names = [name for name in both if stored["methods"][name]["parameters"] != fresh["methods"][name]["parameters"]]
    return [f"{name} has other settings than the stored one" for name in names]


def _of_method(name: str, then: Mapping[str, Any], now: Mapping[str, Any], same_cases: bool) -> Iterator[Comparison]:
    if name == "large@fewer":
        return  # a row of its own has it, and its steps follow from the machine's times
    if name != "large":
        noise = max(_scatter(then["speedup_quartiles"], now["speedup_quartiles"]), LEAST * then["speedup"])
        yield _fall(f"{name}: speedup", then["speedup"], now["speedup"], noise)
    noise = max(_scatter(then["overhead_quartiles"], now["overhead_quartiles"]), LEAST_OVERHEAD)
    yield _rise(f"{name}: overhead", then["overhead"], now["overhead"], noise)
    if then["psnr_to_large_db"] is not None and now["psnr_to_large_db"] is not None:
        noise = max(_scatter_of_closeness(then, now, same_cases), LEAST_DB)
        yield _fall(f"{name}: psnr_to_large_db", then["psnr_to_large_db"], now["psnr_to_large_db"], noise)


def _of_masked_call(then: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    before, after = (call["share_of_full"] / call["flops_share"] for call in (then, now))
    spreads = ([edge / call["flops_share"] for edge in call["share_of_full_quartiles"]] for call in (then, now))
    noise = max(_scatter(*spreads), LEAST * before)
    return _rise(f"masked call of {then['tokens']}: share_of_full / flops_share", before, after, noise)


def _fall(name: str, stored: float, fresh: float, noise: float) -> Comparison:
    return Comparison(name, stored, fresh, stored - fresh, noise)


def _rise(name: str, stored: float, fresh: float, noise: float) -> Comparison:
    return Comparison(name, stored, fresh, fresh - stored, noise)


def _scatter(*quartiles: list[float]) -> float:
    """Half the distances of two pairs of quartiles, added in squares."""
    return math.hypot(*((high - low) / 2 for low, high in quartiles))


def _scatter_of_closeness(then: Mapping[str, Any], now: Mapping[str, Any], same_cases: bool) -> float:
    """Twice the standard error: of the differences where both drew the same pictures, else of both means."""
    before, after = then["psnr_of_each_db"], now["psnr_of_each_db"]
    if same_cases and len(before) > 1:
        return 2 * _error([late - early for early, late in zip(before, after, strict=True)])
    return 2 * math.hypot(_error(before), _error(after))


def _error(values: list[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def read(path: str) -> dict[str, Any]:
    """A bench's JSON.

    Raises:
        HybridStitchError: it cannot be read or is none.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise HybridStitchError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise HybridStitchError(f"{path} is not JSON") from None
    if not isinstance(content, dict) or not {"machine", "methods", "masked_call", "cases", *SAME} <= content.keys():
        raise HybridStitchError(f"{path} is not what `hybridstitch-trt bench --json` writes")
    return content


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stored", metavar="STORED.json")
    parser.add_argument("fresh", metavar="FRESH.json")
    options = parser.parse_args(arguments)
    try:
        stored, fresh = read(options.stored), read(options.fresh)
        compared = sorted(compare(stored, fresh), key=lambda comparison: comparison.name)
    except HybridStitchError as error:
        print(f"regressions: {error}", file=sys.stderr)
        return 2
    notes = [note] if (note := other_machine(stored, fresh)) else []
    for line in [*notes, *changed(stored, fresh)]:
        print(line)
    lines = [str(comparison) for comparison in compared if comparison.regressed] + missing(stored, fresh)
    for line in lines:
        print(line)
    print(f"ratios compared: {len(compared)}; worse: {len(lines)}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
