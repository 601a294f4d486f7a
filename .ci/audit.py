"""Known vulnerabilities of what requirements.lock holds, by pip-audit in an environment of its own (make audit).

Exit code 0: every package was looked up, and none has any. 1: some have. 3: not all could be looked up: pip-audit
itself finds nothing in packages that its source does not answer for, and ends with 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def verdict(report: str) -> tuple[int, list[str]]:
    """Exit code and lines, of pip-audit's JSON; text that is none: it could not ask."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 3, ["audit: no answer from the source of vulnerabilities; nothing was audited"]
    lines = [f"{each['name']} {each['version']}: {flaw['id']}" for each in packages for flaw in each.get("vulns", [])]
    skipped = sum("skip_reason" in each for each in packages)
    if skipped or not packages:
        lines.append(f"audit: {skipped} of {len(packages)} packages could not be looked up: they were not audited")
    return (1 if any(each.get("vulns") for each in packages) else 3 if skipped or not packages else 0), lines


def main() -> int:
    folder = ROOT / "build" / "audit"
    try:
        if not (folder / "bin" / "pip-audit").exists():
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", "pip-audit"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        print("audit: pip-audit cannot be installed; nothing was audited")
        return 3
    options = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [folder / "bin" / "pip-audit", "-r", ROOT / "requirements.lock", *options]
    code, lines = verdict(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    print("\n".join(lines or ["audit: no known vulnerability in any package"]))
    return code


if __name__ == "__main__":
    sys.exit(main())
