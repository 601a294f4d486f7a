"""What measured the figures of the demo pair in the documents: one command each, and where its result is kept.

    python -m benchmarks.documents.figures                      list them
    python -m benchmarks.documents.figures score residual       measure these anew; `all`: everything, which takes hours
    python -m benchmarks.documents.figures methods --core 1     on one core, which the result says

An evaluation that was stopped goes on: a folder of its own in --out keeps what it drew, so that two may run at the same
time, on a core each. `make engines` first; afterwards `python -m benchmarks.documents.tables` writes the tables anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import RESULTS

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
EVAL = "hybridstitch-trt eval --pair demo --threads 1"
AT_A_SCALE = "--count 48 --variant small --variant 'srdiffusion 1' --variant 't-stitch 1' --variant 'hybrid 6+8/28'"
KEYS = "--pair benchmarks/keys.toml"


@dataclass(frozen=True)
class Figure:
    """What measures a figure.

    command: from the top of a checkout. result: NAME of benchmarks/results/NAME.json. report: the file of an
    evaluation that becomes it, with `--out` added to the command; None: the command writes its result itself. images:
    the evaluation's plots that go to docs/images. before: commands that have to run first.
    """

    command: str
    result: str
    report: str | None = None
    images: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def measure(self, out: Path, core: int | None = None) -> int:
        """Run the commands and keep what came out; the exit code of the first that fails, which keeps nothing."""
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        for command in (*self.before, self.command):
            words = [*pinned, *shlex.split(command)]
            if command == self.command and self.report is not None:
                words += ["--out", str(out)]
            print(shlex.join(words), flush=True)
            done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PATH": programs}, check=False)
            if done.returncode:
                return done.returncode
        self.keep(out, " ".join([*pinned, self.command]))
        return 0

    def keep(self, out: Path, command: str) -> None:
        """Put an evaluation's report and plots where the documents look for them."""
        if self.report is None:
            return
        report = json.loads((ROOT / out / self.report).read_text(encoding="utf-8"))
        report["about"]["command"] = command
        (RESULTS / f"{self.result}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for image in self.images:
            shutil.copyfile(ROOT / out / Path(self.report).stem / image, IMAGES / image)


def _ablation(name: str) -> Figure:
    return Figure(f"{EVAL} --count 12 --ablation {name}", f"eval-demo-{name}", f"{name}.json")


METHODS = "methods.json"
FIGURES: Mapping[str, Figure] = {
    "pair": Figure(
        "python -m training.sheets --guidance 5 3.5 7 --json benchmarks/results/demo-pair.json",
        "demo-pair",
    ),
    "bench": Figure("make bench", "bench-demo-onnxruntime"),
    "methods": Figure(f"{EVAL} --count 200", "eval-demo", METHODS, images=("closeness.png", "attributes.png")),
    "guidance-3.5": Figure(f"{EVAL} --guidance 3.5 {AT_A_SCALE}", "eval-demo-guidance-3.5", METHODS),
    "guidance-7": Figure(f"{EVAL} --guidance 7 {AT_A_SCALE}", "eval-demo-guidance-7", METHODS),
    "grid": Figure(f"{EVAL} --count 24 --ablation grid", "eval-demo-grid", "grid.json"),
    "sketch": _ablation("sketch"),
    "score": _ablation("score"),
    "mask-ratio": _ablation("mask-ratio"),
    "stage-ends": _ablation("stage-ends"),
    "refresh": _ablation("refresh"),
    "steps": _ablation("steps"),
    "residual": _ablation("residual"),
    "moving-on": Figure(
        f"{EVAL} --count 200 --ablation moving-on --by operations", "eval-demo-moving-on", "moving-on.json"
    ),
    "sd35-operations": Figure("python -m benchmarks.sd35_operations --save", "sd35-operations"),
    "keys": Figure(
        f"hybridstitch-trt eval {KEYS} --engines out/keys/engines --threads 1 --count 12 --ablation keys",
        "eval-demo-keys",
        "keys.json",
        before=(f"hybridstitch-trt build {KEYS} --onnx out/keys/onnx --out out/keys/engines",),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.documents.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="none: list them")
    parser.add_argument("--core", type=int, metavar="N", help="run on this core alone")
    parser.add_argument("--out", type=Path, default=Path("out/eval"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    names = list(FIGURES) if "all" in options.figures else options.figures
    if unknown := [name for name in names if name not in FIGURES]:
        parser.error(f"no figure {unknown[0]!r}; there are {', '.join(FIGURES)}, all")
    if not names:
        for name, figure in FIGURES.items():
            print(f"{name:13} benchmarks/results/{figure.result}.json\n{'':13} {figure.command}")
    for name in names:
        if code := FIGURES[name].measure(options.out / name, options.core):
            print(f"{name}: exit code {code}; nothing of it was kept", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
