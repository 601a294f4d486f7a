"""The tables of figures in the documents, written from what was measured (benchmarks/results).

    python -m benchmarks.documents.tables            after a measurement: write them anew
    python -m benchmarks.documents.tables --check    say which tables differ from what was measured, with exit code 1

A table stands between `<!-- table NAME -->` and `<!-- end -->`; TABLES says what is in it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import moving_on
from .measured import (
    NotMeasured,
    beside,
    better,
    bold,
    both,
    closeness,
    decibels,
    evaluated,
    markdown,
    result,
    right,
    speedup,
)

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/method.md", "docs/bench.md", "docs/demo-pair.md")
BLOCK = re.compile(r"(<!-- table ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.S)

README = {
    "large, 28 steps": "large",
    "large alone, 10 steps": "large@10",
    "large alone, 10 steps of the grid of 28": "large@10 g28",
    "hybrid, the recipe's three stages (5 large, 6 hybrid, 1 small)": "hybrid, the recipe's",
    "the same without the small model (5 large, 7 hybrid)": "held 5+7/12 f1 g28",
    "hybrid, 10 steps without it (5 large, 5 hybrid)": "held 5+5/10 f1 g28",
    "large alone, 6 steps": "large@6",
    "hybrid, 8 steps (5 large, 1 hybrid, 2 small), sketched": "hybrid 5+1/8 r1.0",
    "hybrid, 28 steps, the paper's (6 large, 8 hybrid, 14 small)": "hybrid 6+8/28",
    "SRDiffusion, 10 of 28 steps large": "srdiffusion 10/28",
    "T-Stitch, 16 of 28 steps large": "t-stitch 16/28",
}


def readme() -> str:
    """What each method is worth, in few rows. Bold: better than the control by more than the interval."""
    header = (
        "",
        "speed-up",
        "PSNR to the large model's 28-step picture",
        "beside large alone",
        "beside large on its grid",
        "everything right",
    )
    rows = []
    for label, variant in README.items():
        row = evaluated("eval-demo", variant)
        control, grid = ({"psnr": None, "all_right": None} | row[name] for name in ("beside_control", "beside_grid"))
        method = row["settings"]["method"] != "large"
        cells = [
            bold(f"{beside(interval)} dB" if interval else "", method and better(interval))
            for interval in (control["psnr"], grid["psnr"])
        ]
        whole = closeness(row) if decibels(row) else ""
        rows.append([label, speedup(row), whole, *cells, bold(right(row), method and better(control["all_right"]))])
    return markdown(header, rows)


def methods(name: str) -> str:
    """Every variant of an evaluation, with all that was measured."""
    header = (
        "method",
        "seconds",
        "speed-up",
        "PSNR, dB",
        "beside the control",
        "beside its grid",
        "SSIM",
        "right",
        "beside the control",
        "beside its grid",
        "Frechet",
    )
    rows = []
    for row in result(name)["rows"]:
        control, grid, means = row["beside_control"], row["beside_grid"], row["means"]
        rows.append(
            [
                row["variant"],
                f"{row['seconds']:.2f}",
                speedup(row),
                decibels(row),
                beside(control.get("psnr")),
                beside(grid.get("psnr")),
                f"{means['ssim']['mean']:.3f}" if "ssim" in means else "",
                right(row),
                beside(control.get("all_right"), 100, 0),
                beside(grid.get("all_right"), 100, 0),
                f"{row['frechet']:.2f}",
            ]
        )
    return markdown(header, rows)


def sketch() -> str:
    """Held tokens or sketched ones, by how many hybrid steps are full and where the steps lie; the closest is bold."""
    every = {"none": 0, "every other": 1, "every third": 2}
    pairs = {
        (title, full): [evaluated("eval-demo-sketch", f"{kind} 5+7/12 f{count} g{grid}") for grid in (0, 28)]
        for kind, title in (("held", "held"), ("hybrid", "sketched by the small model"))
        for full, count in every.items()
    }
    closest = max((row for pair in pairs.values() for row in pair), key=lambda row: row["means"]["psnr"]["mean"])
    rows = [[*titles, *(bold(both(row), row is closest) for row in pair)] for titles, pair in pairs.items()]
    return markdown(("the other tokens", "full steps", "evenly spaced", "on the grid of 28"), rows)


def score() -> str:
    labels = {
        "gap: where the models disagree (one call of the small model more at each hand-over)": "score gap",
        "change: where the velocity moved": "score change",
        "an oracle that has drawn the end with and without the large model": "by the end",
        "chance": "by chance",
    }
    rows = [[label, decibels(evaluated("eval-demo-score", variant))] for label, variant in labels.items()]
    return markdown(("mask by", "PSNR, dB"), rows)


def mask_ratio() -> str:
    ratios = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    evaluations = [evaluated("eval-demo-mask-ratio", f"mask {ratio}") for ratio in ratios]
    rows = [
        ["PSNR, dB", *(decibels(row) for row in evaluations)],
        ["speed-up", *(speedup(row) for row in evaluations)],
    ]
    return markdown(("mask ratio", *map(str, ratios)), rows)


def keys() -> str:
    groups = {"the recipe": "", "the paper's, 6 + 8 of 28": "the paper's, "}
    rows = [
        [label, *(closeness(evaluated("eval-demo-keys", f"{start}{kind}")) for kind in ("frozen keys", "no keys"))]
        for label, start in groups.items()
    ]
    return markdown(("", "with frozen keys and values", "without any"), rows)


def stage_ends() -> str:
    """The recipe, which is bold, with other ends of its stages."""
    ends = ((3, 9), (3, 4), (5, 7), (5, 6), (5, 3), (7, 5), (7, 4), (9, 3), (9, 1))
    rows = []
    for large, hybrid in ends:
        held = evaluated("eval-demo-stage-ends", f"held {large}+{hybrid}/12 f1 r1.0 g28")
        sketched = evaluated("eval-demo-stage-ends", f"hybrid {large}+{hybrid}/12 r1.0 g28")
        recipe = (large, hybrid) == (5, 6)
        numbers = [bold(str(count), recipe) for count in (large, hybrid, 12 - large - hybrid)]
        rows.append([*numbers, bold(both(held), recipe), both(sketched)])
    return markdown(("large", "hybrid", "small", "held", "sketched, no full step"), rows)


def refresh() -> str:
    every = {"none": 0, "every other": 1, "every third": 2, "every fifth": 4}
    text_of = {label: both(evaluated("eval-demo-refresh", f"refresh every {count}")) for label, count in every.items()}
    cells = [bold(text, label == "every other") for label, text in text_of.items()]
    return markdown(("full steps among the held ones", *text_of), [["", *cells]])


def steps() -> str:
    counts = (6, 8, 10, 12, 16, 20)
    texts = [bold(both(evaluated("eval-demo-steps", f"hybrid, {count} steps")), count == 12) for count in counts]
    return markdown(("steps", *(bold(str(count), count == 12) for count in counts)), [["the recipe", *texts]])


def residual() -> str:
    exponents = ("off", "0.5", "1.0", "2.0", "3.0", "4.0")
    methods = {"hybrid, 6 + 8": "hybrid", "SRDiffusion, 10": "srdiffusion"}
    rows = [
        [
            label,
            *(closeness(evaluated("eval-demo-residual", f"{method}, residual {exponent}")) for exponent in exponents),
        ]
        for label, method in methods.items()
    ]
    return markdown(("exponent of the residual, 28 steps", *(text.removesuffix(".0") for text in exponents)), rows)


GUIDANCE = {"3.5": "eval-demo-guidance-3.5", "5": "eval-demo", "7": "eval-demo-guidance-7"}


def guidance() -> str:
    """Closeness at three guidance scales, and what the judge finds right."""
    fewer = [f"large@{count}" for count in (20, 16, 12, 10, 8, 6)]
    others = [
        "srdiffusion 10/28",
        "srdiffusion 10/28 r2",
        "srdiffusion 14/28",
        "t-stitch 14/28",
        "t-stitch 16/28",
        "hybrid 6+8/28",
        "hybrid 6+8/28 r3.0",
    ]
    rows = [
        [variant, *(both(evaluated(name, variant)) for name in GUIDANCE.values())]
        for variant in (*fewer, "small", *others)
    ]
    rows += [
        [f"{variant}, everything right", *(right(evaluated(name, variant)) for name in GUIDANCE.values())]
        for variant in ("large", "small", "hybrid 6+8/28 r3.0")
    ]
    first, *rest = GUIDANCE
    return markdown(("", f"guidance {first}", *rest), rows)


def grid() -> str:
    """Steps from a finer grid beside evenly spaced ones."""
    even = ("hybrid 7+2/10 r1.0", "srdiffusion 7/10 r1")
    rows = []
    names = [f"large@{count} g28" for count in (14, 10, 8)] + [f"{name} g{grid}" for name in even for grid in (0, 28)]
    for name in names:
        row = evaluated("eval-demo-grid", name)
        control = row["beside_control"]
        cells = [beside(control.get("psnr")), right(row), beside(control.get("all_right"), 100, 0)]
        rows.append([name.removesuffix(" g0"), speedup(row), decibels(row), *cells])
    return markdown(("method", "speed-up", "PSNR, dB", "beside the control", "right", "beside the control"), rows)


def bench() -> str:
    """Rows of `make bench`: methods, and beside each the large model in as much time."""
    drawn = result("bench-demo-onnxruntime")["methods"]
    rows = []
    for name, row in drawn.items():
        if row["same_as"] is not None or name.startswith("large@"):
            continue
        own = row["parameters"]["steps"]
        label = f"{name} ({own} steps)" if name.startswith("hybrid") and own != 28 and "steps" not in name else name
        control = drawn[row["control"]] if row["control"] else None
        rows.append(
            [
                label,
                f"{row['seconds']:.3f}",
                f"{row['speedup']:.2f}x",
                "" if row["psnr_to_large_db"] is None else f"{row['psnr_to_large_db']:.1f}",
                "" if control is None else f"{row['control']}, {control['psnr_to_large_db']:.1f} dB",
                f"{100 * row['overhead']:.1f} %",
            ]
        )
    return markdown(("", "seconds", "speed-up", "PSNR, dB", "as long takes", "overhead"), rows)


def targets() -> str:
    """What `make bench` was aimed at, and what came out; bold: not reached."""
    measured = result("bench-demo-onnxruntime")
    hybrid, paper = (measured["methods"][name] for name in ("hybrid", "hybrid-paper@0.3"))
    masked = next(call for call in measured["masked_call"] if call["tokens"] == 80)
    over = masked["share_of_full"] / masked["flops_share"]
    eager, compiled = (measured["diffusers"][f"large_speedup_over_{how}"] for how in ("eager", "compile"))
    rows = [
        (
            "hybrid at 30 % with the recipe's stage ends",
            "1.83x",
            hybrid["speedup"] >= 1.83,
            f"{speedup(hybrid)}, in {hybrid['parameters']['steps']} steps; the paper's in 28 steps {speedup(paper)}",
        ),
        (
            "a masked call of 80 of 256 tokens, over its share of the operations",
            "1.2",
            over <= 1.2,
            f"{over:.2f}",
        ),
        (
            "large beside diffusers' pipeline, eager",
            "2x",
            eager >= 2,
            f"{eager:.1f}x; {compiled:.1f}x beside torch.compile",
        ),
    ]
    cells = [[name, aim, text if reached else bold(f"{text}: not reached")] for name, aim, reached, text in rows]
    return markdown(("", "aimed at", "measured"), cells)


AIMED_AT = {"background": 0.98, "place": 0.98, "size": 0.98, "color": 0.97, "shape": 0.92, "texture": 0.9, "all": 0.65}
"""Of the large model's pictures, the share in which the judge finds an attribute right."""


def attributes() -> str:
    """How often the judge finds right what the pair's models draw; bold: less than was aimed at."""
    shares = result("demo-pair")["right"]
    scales = list(shares["large"])
    rows = [
        [
            f"{size}, guidance {scale}",
            *(
                bold(f"{shares[size][scale][name]:.3f}", size == "large" and shares[size][scale][name] < aim)
                for name, aim in AIMED_AT.items()
            ),
        ]
        for size in ("large", "small")
        for scale in scales
    ]
    aims = ["aimed at, large", *(f"{aim:.2f}" for aim in AIMED_AT.values())]
    names = [name.replace("color", "colour").replace("all", "everything in a picture") for name in AIMED_AT]
    return markdown(("", *names), [*rows, aims])


def cost() -> str:
    """What a call of each model costs."""
    pair = result("demo-pair")
    measured = {
        "floating-point operations": ("operations_g", "G", 2),
        "2 threads": ("ms_2_threads", "ms", 1),
        "1 thread": ("ms_1_threads", "ms", 1),
    }
    rows = []
    for label, (key, unit, digits) in measured.items():
        calls = (f"{pair['cost_a_call'][size][key]:.{digits}f} {unit}" for size in ("large", "small"))
        rows.append([label, *calls, f"{pair['cost_ratio'][key]:.1f}"])
    return markdown(("", "large", "small", "ratio"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "readme": readme,
    "methods": lambda: methods("eval-demo"),
    "sketch": sketch,
    "score": score,
    "mask-ratio": mask_ratio,
    "keys": keys,
    "stage-ends": stage_ends,
    "refresh": refresh,
    "steps": steps,
    "residual": residual,
    "moving-on": moving_on.ways,
    "moving-on-part": moving_on.parts,
    "moving-on-masks": moving_on.masks,
    "moving-on-recipe": moving_on.small_end,
    "guidance": guidance,
    "grid": grid,
    "bench": bench,
    "targets": targets,
    "cost": cost,
    "attributes": attributes,
}


def written(text: str) -> str:
    """A document with every table of it as it was measured.

    Raises:
        NotMeasured: a table that TABLES does not know, or whose figures are not in benchmarks/results.
    """

    def anew(block: re.Match[str]) -> str:
        if block[2] not in TABLES:
            raise NotMeasured(f"no table {block[2]!r}; there are {', '.join(TABLES)}")
        return block[1] + TABLES[block[2]]() + block[4]

    return BLOCK.sub(anew, text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.documents.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a table differs")
    check = parser.parse_args(arguments).check
    stale = False
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        try:
            after = written(before)
        except NotMeasured as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        if after == before:
            continue
        stale = True
        print(f"{name}: {'differs from what was measured' if check else 'written'}")
        if not check:
            path.write_text(after, encoding="utf-8")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
