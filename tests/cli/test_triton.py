"""`hybridstitch-trt triton`: the repository that it writes, and what it refuses."""

import re

import pytest

from hybridstitch.cli import main
from hybridstitch.method.settings import SETTINGS
from hybridstitch.serving.triton.config import ModelOptions, config_text


@pytest.fixture
def write(demo_engines, tmp_path):
    def call(*arguments: str) -> int:
        fixed = ["triton", "--pair", "demo", "--engines", str(demo_engines), "--out", str(tmp_path / "models")]
        return main([*fixed, *arguments])

    return call


def test_a_model_has_every_setting_as_an_optional_input_and_says_how_to_serve_and_probe_it(write, tmp_path, capsys):
    assert write("--environment", "none", "--max-queue", "3") == 0
    told = capsys.readouterr().out
    assert f"tritonserver --model-repository {tmp_path / 'models'}" in told
    assert f"python3 {tmp_path / 'models' / 'demo' / 'probe.py'} http://127.0.0.1:8000" in told
    config = (tmp_path / "models" / "demo" / "config.pbtxt").read_text()
    optional = set(re.findall(r'^input \{ name: "(\w+)" .* optional: true \}$', config, re.MULTILINE))
    assert optional == {"prompt", "negative_prompt", "seed", "size", "method", *SETTINGS}
    assert 'parameters { key: "max_queue" value { string_value: "3" } }' in config
    assert "EXECUTION_ENV_PATH" not in config
    assert (tmp_path / "models" / "demo" / "1" / "model.py").read_text().startswith('"""The model that Triton')


def test_a_decoupled_model_stands_beside_the_other(write, tmp_path):
    assert write("--environment", "none") == 0
    assert write("--environment", "none", "--decoupled") == 0
    config = (tmp_path / "models" / "demo_stream" / "config.pbtxt").read_text()
    assert "model_transaction_policy { decoupled: true }" in config
    assert 'output { name: "preview" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }' in config


def test_instances_are_on_the_cpu_on_the_gpus_that_are_named_or_on_all():
    options = ModelOptions(pair="demo", engines="/engines", backend="tensorrt")
    assert "instance_group [ { kind: KIND_CPU count: 1 } ]" in config_text(options)
    assert "instance_group [ { kind: KIND_GPU count: 1 gpus: [ 0, 2 ] } ]" in config_text(options, gpus=[0, 2])
    assert "instance_group [ { kind: KIND_GPU count: 1 } ]" in config_text(options, gpus=[])


def test_what_the_model_reads_of_its_parameters_is_what_was_written():
    options = ModelOptions(
        pair='a "b"', engines="/e", backend="torch", threads=2, max_batch=3, max_delay=0.5, timeout=9.0, end_server=True
    )
    assert ModelOptions.of({**options.texts(), "FORCE_CPU_ONLY_INPUT_TENSORS": "no"}) == options
    assert "end_server" not in ModelOptions(pair="demo", engines="/e", backend="torch").texts()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "a/b"], "--name 'a/b': a model's name has letters, digits, '.', '_' and '-' only"),
        (["--gpus", "0"], "--gpus: backend onnxruntime runs on the CPU; for GPUs give another --backend"),
        (["--environment", "/usr"], "--environment /usr is no virtual environment: it has no bin/activate"),
        (["--engines", "/nowhere"], "/nowhere"),
        (["--pair", "nobody"], "nobody"),
        (["--out", "/proc/models"], "--out /proc/models: cannot write /proc/models/demo"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(write, tmp_path, capsys, arguments, words):
    assert write("--environment", "none", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("models/*"))


def test_a_model_that_is_there_is_left_as_it_is(write, tmp_path, capsys):
    assert write("--environment", "none") == 0
    before = (tmp_path / "models" / "demo" / "config.pbtxt").read_bytes()
    assert write("--environment", "none", "--max-queue", "9") == 2
    assert "is there already and not empty; remove it, or give another --name" in capsys.readouterr().err
    assert (tmp_path / "models" / "demo" / "config.pbtxt").read_bytes() == before
