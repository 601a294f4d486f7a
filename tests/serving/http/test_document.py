"""The guide to serving: its commands run as they stand, its tables are the code's."""

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from hybridstitch.serving.http.errors import ERRORS
from hybridstitch.serving.http.names import HTTP_NAMES
from hybridstitch.serving.http.schema import IGNORED, ImageFields
from hybridstitch.serving.metrics import METRICS

GUIDE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
HTTP = GUIDE[GUIDE.index("## Over HTTP") :]
WRITTEN = "http://127.0.0.1:8000"
CURL = re.findall(r"```bash\n(curl .*?)```", HTTP, re.S)


@pytest.mark.parametrize("command", CURL, ids=range(len(CURL)))
def test_each_curl_line_works(command, demo, tmp_path):
    script = "set -euo pipefail\n" + command.replace(WRITTEN, demo)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    if "> star.png" in command:
        assert Image.open(tmp_path / "star.png").size == (128, 128)
    elif "stream" in command:
        assert done.stdout.count("event: image_generation.partial_image") == 2
    else:
        assert '"id": "demo"' in done.stdout


def test_the_python_lines_work(demo, tmp_path, monkeypatch):
    source = re.search(r"```python\n(import base64.*?)```", HTTP, re.S)
    assert source is not None
    monkeypatch.chdir(tmp_path)
    exec(source[1].replace(WRITTEN, demo), {})
    assert {path.name for path in tmp_path.iterdir()} == {"star-0.png", "star-1.png"}


def test_the_table_of_errors_is_the_codes():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", HTTP, re.M)
    assert rows == [(code, str(kind.status), kind.when) for code, kind in ERRORS.items()]


def test_the_table_of_metrics_is_the_codes():
    rows = re.findall(r"^\| `(hybridstitch_\w+)` \| (\w+) \| (.*) \| (.*) \|$", HTTP, re.M)
    assert rows == [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]


def test_every_parameter_is_named():
    for name in (*ImageFields.model_fields, *IGNORED, *HTTP_NAMES.values()):
        assert f"`{name}`" in HTTP, name
