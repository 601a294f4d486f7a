"""`hybridstitch-trt run`: what it draws, says and writes."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hybridstitch.cli import main, parser
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.drawing import Drawing
from hybridstitch.runtime.pictures import encode_png, read_metadata
from hybridstitch.runtime.result import Failure

STAR = "a large striped red star left of a small plain white circle on a navy background"
HEART = "a large plain green heart on a grey background"
QUICK = ["--steps", "6", "--large-steps", "2", "--hybrid-steps", "2"]


@pytest.fixture
def run(demo_engines, capsys):
    """Run the command on the demo engines; returns exit code, stdout and stderr."""

    def call(*arguments: str):
        code = main(["run", "--engines", str(demo_engines), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_picture_its_mask_and_a_table_of_where_the_time_went(run, tmp_path):
    out = tmp_path / "star.png"
    code, stdout, stderr = run("--prompt", STAR, "--seed", "7", *QUICK, "--save-mask", "--out", str(out))
    assert code == 0
    assert Image.open(out).size == (128, 128)
    assert Image.open(tmp_path / "star-mask.png").size == (128, 128)
    for word in ("2 large, 2 hybrid, 2 small", "hybrid stage", "large engine", "total", str(out), "seed 7"):
        assert word in stdout
    assert "6/6 steps" in stderr


def test_json_is_one_report_on_stdout_and_nothing_else(run, tmp_path):
    code, stdout, _ = run("--prompt", STAR, "--prompt", HEART, "--seed", "3", *QUICK, "--json", "--out", str(tmp_path))
    assert code == 0
    report = json.loads(stdout)
    first, second = report["pictures"]
    assert (first["prompt"], first["seed"]) == (STAR, 3)
    assert (second["prompt"], second["seed"]) == (HEART, 4)
    assert first["mask_ratio"] == pytest.approx(80 / 256)
    assert first["parameters"]["hybrid_steps"] == 2
    assert report["stages"]["hybrid"]["calls"] == 2
    assert report["engines"]["large"]["calls"] == 4
    assert report["engines"]["large"]["seconds"] > 0
    assert Image.open(first["path"]).size == Image.open(second["path"]).size == (128, 128)


def test_a_run_in_a_folder_leaves_other_pictures_and_says_where_its_own_are(run, tmp_path):
    def draw(*settings):
        words = (
            "--prompt",
            "звезда",
            "--seed",
            "7",
            *QUICK,
            *settings,
            "--json",
            "--out",
            str(tmp_path),
        )
        code, stdout, _ = run(*words)
        assert code == 0
        (picture,) = json.loads(stdout)["pictures"]
        return picture["path"], picture["mask_path"]

    name = str(tmp_path / "звезда-seed7-hybrid")
    assert draw("--save-mask") == (f"{name}.png", f"{name}-mask.png")
    first = Path(f"{name}.png").read_bytes()
    assert draw("--guidance", "3", "--save-mask") == (f"{name}-2.png", f"{name}-2-mask.png")
    assert draw("--save-mask") == (f"{name}.png", f"{name}-mask.png"), "the same picture once more"
    assert Path(f"{name}.png").read_bytes() == first
    assert read_metadata(Path(f"{name}-2.png"))["guidance"] == 3
    assert draw("--guidance", "4", "--overwrite") == (f"{name}.png", None)
    assert read_metadata(Path(f"{name}.png"))["guidance"] == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_is_there_is_refused_unless_it_may_be_overwritten(run, tmp_path, monkeypatch):
    out = tmp_path / "star.png"
    out.write_bytes(b"mine")
    code, _, stderr = run("--prompt", HEART, *QUICK, "--out", str(out))
    words = f"hybridstitch-trt run: --out: {out} is there already; name another file, or add --overwrite\n"
    assert (code, stderr) == (2, words)
    assert out.read_bytes() == b"mine"
    assert run("--prompt", HEART, *QUICK, "--out", str(out), "--overwrite")[0] == 0
    assert Image.open(out).size == (128, 128)


def test_a_picture_that_went_wrong_is_told_and_the_others_are_saved(run, tmp_path, monkeypatch):
    finish = Drawing.finish

    def second_wrong(drawing):
        first, *_ = finish(drawing)
        return [first, Failure(drawing.batch[1], "large, step 2, gave NaN or infinity")]

    monkeypatch.setattr(Drawing, "finish", second_wrong)
    code, stdout, stderr = run("--prompt", STAR, "--prompt", HEART, *QUICK, "--json", "--out", str(tmp_path))
    assert code == 1
    report = json.loads(stdout)
    assert [picture["prompt"] for picture in report["pictures"]] == [STAR]
    assert report["failures"] == [{"prompt": HEART, "error": "large, step 2, gave NaN or infinity"}]
    assert stderr.splitlines() == [f"not drawn: {HEART!r}: large, step 2, gave NaN or infinity"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".png"]


def test_a_picture_can_be_drawn_again_from_its_metadata(run, tmp_path):
    run(
        "--prompt",
        HEART,
        "--seed",
        "5",
        *QUICK,
        "--residual",
        "off",
        "--size",
        "96x160",
        "--out",
        str(tmp_path / "a.png"),
    )
    code, _, _ = run("--like", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png"))
    first, again = Image.open(tmp_path / "a.png"), Image.open(tmp_path / "b.png")
    assert code == 0
    assert first.tobytes() == again.tobytes()
    assert first.info == again.info
    assert first.info["prompt"] == HEART
    assert first.info["seed"] == "5"
    assert first.info["method"] == "hybrid"
    assert first.info["software"].startswith("hybridstitch-trt ")


@pytest.mark.parametrize(
    "method", [["large"], ["small"], ["srdiffusion"], ["t-stitch"], ["hybrid", "--adaptive", "0.2"]], ids=" ".join
)
def test_a_picture_of_any_method_can_be_drawn_again(run, tmp_path, method):
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    assert run("--prompt", HEART, "--steps", "5", "--method", *method, "--out", str(first))[0] == 0
    assert run("--like", str(first), "--out", str(again))[0] == 0
    assert Image.open(first).tobytes() == Image.open(again).tobytes()


@pytest.fixture
def adaptive_recipe(tmp_path):
    """The demo pair, by a recipe of one's own that switches adaptively."""
    shipped = Recipe.load("demo")
    text = (shipped.folder / "demo.toml").read_text().replace('"demo/', f'"{shipped.folder}/demo/')
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("[methods.hybrid]", "[methods.hybrid]\nadaptive = 0.3"))
    return str(path)


@pytest.mark.parametrize("flags", [["--adaptive", "off"], QUICK], ids=["off", "stage lengths"])
def test_flags_win_over_a_recipe_that_switches_adaptively(run, tmp_path, adaptive_recipe, flags):
    code, stdout, _ = run(
        "--pair", adaptive_recipe, "--prompt", HEART, "--steps", "6", *flags, "--json", "--out", str(tmp_path)
    )
    assert code == 0
    assert json.loads(stdout)["parameters"]["adaptive"] is None


@pytest.mark.parametrize("again", [[], ["--adaptive", "0.3"]], ids=["as it came out", "switching again"])
def test_a_picture_of_a_recipe_that_switches_adaptively_is_drawn_again(run, tmp_path, adaptive_recipe, again):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    assert run("--pair", adaptive_recipe, "--prompt", HEART, "--steps", "8", "--out", str(first))[0] == 0
    assert json.loads(Image.open(first).info["hybridstitch"])["adaptive"] == 0.3
    code, _, stderr = run("--like", str(first), "--pair", adaptive_recipe, *again, "--out", str(second))
    assert code == 0, stderr
    assert Image.open(first).tobytes() == Image.open(second).tobytes()


def test_prompts_come_from_a_file_too(run, tmp_path):
    (tmp_path / "prompts.txt").write_bytes(
        f"\ufeff{STAR}\r\n\r\n  # as Windows editors write it\r\n{HEART}\r\n".encode()
    )
    code, stdout, _ = run(
        "--prompts-file", str(tmp_path / "prompts.txt"), *QUICK, "--method", "hybrid", "--json", "--out", str(tmp_path)
    )
    assert code == 0
    assert [picture["prompt"] for picture in json.loads(stdout)["pictures"]] == [STAR, HEART]
    assert len(list(tmp_path.glob("*-hybrid.png"))) == 2


@pytest.mark.parametrize("method", ["large", "small", "srdiffusion", "t-stitch"])
def test_the_other_methods_are_one_word_away(run, tmp_path, method):
    code, stdout, _ = run("--prompt", HEART, "--method", method, "--steps", "4", "--json", "--out", str(tmp_path))
    assert code == 0
    report = json.loads(stdout)
    assert report["pictures"][0]["parameters"]["method"] == method
    assert "hybrid" not in report["stages"]


def refused(capsys, words: str, *arguments: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that holds the words."""
    try:
        code = main(["run", *arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no prompt: give --prompt"),
        (["--prompt", STAR, "--seed", "seven"], "seed must be a whole number from 0 to 2^63 - 1, not 'seven'"),
        (["--prompt", STAR, "--seed", "1.5"], "seed must be a whole number from 0 to 2^63 - 1, not '1.5'"),
        (["--prompt", STAR, "--seed", "-1"], "seed must be a whole number from 0 to 2^63 - 1, not -1"),
        (["--prompt", STAR, "--steps", "0"], "steps must be a whole number from 1 to 1000, not 0"),
        (["--prompt", STAR, "--size", "big"], "size 'big' is not WIDTHxHEIGHT"),
        (["--prompt", STAR, "--mask-ratio", "1.2"], "mask ratio must be from 0 to 1, not 1.2"),
        (["--prompt", STAR, "--mask-ratio", "nan"], "mask ratio must be a number, not nan"),
        (["--prompt", STAR, "--adaptive", "7"], "adaptive threshold must be between 0 and 1, or off, not 7"),
        (["--prompt", STAR, "--residual", "on"], "must be a number, not 'on'"),
        (["--prompt", STAR, "--score", "guess"], "unknown score 'guess'; known: gap, change"),
        (["--prompt", STAR, "--adaptive", "0.1", "--large-steps", "3"], "give it or stage lengths, not both"),
        (["--prompt", STAR, "--guidance", "-2"], "guidance must be from 0 to 100, not -2"),
        (["--prompt", STAR, "--large-steps", "0"], "needs at least 1 large step"),
        (["--prompt", STAR, "--large-steps", "30"], "do not fit into 12 steps"),
        (["--prompt", STAR, "--method", "magic"], "invalid choice: 'magic'"),
        (["--prompt", STAR, "--method", "large", "--save-mask"], "has no hybrid stage, so no mask"),
        (["--prompt", STAR, "--method", "small", "--mask-ratio", "0.2"], "has no setting 'mask_ratio'"),
        (["--prompt", STAR, "--pair", "nope"], "unknown pair 'nope'; known: demo, sd3, sd35"),
        (["--prompt", STAR, "--backend", "abacus"], "invalid choice: 'abacus'"),
        (["--prompt", STAR, "--out", "/nowhere/at/all"], "no such folder; make it first"),
        (["--prompt", STAR, "--out", "/nowhere/star.png"], "no such folder /nowhere"),
        (["--prompt", STAR, "--out", "star.jpg"], "pictures are PNG files; name it star.png"),
        (["--prompt", STAR, "--prompt", HEART, "--out", "star.png"], "is one file and there are 2 prompts"),
        (["--prompts-file", "/nowhere.txt"], "--prompts-file /nowhere.txt: No such file"),
        (["--like", "/nowhere.png"], "cannot read /nowhere.png: No such file"),
        (["--prompt", STAR, "--out", "n" * 300 + ".png"], "the name is too long; give one of at most 250 bytes"),
        (["--prompt", STAR, "--out", ""], "argument --out: it names no file or folder: it is empty"),
        (["--prompt", STAR, "--steps", "1001"], "steps must be a whole number from 1 to 1000, not 1001"),
        (["--prompt", STAR, "--threads", "0"], "threads must be a whole number from 1 to 1024, not 0"),
        (["--prompt", STAR, "--threads", "9999"], "threads must be a whole number from 1 to 1024, not 9999"),
        (["--prompt", STAR, "--colour"], "unrecognized arguments: --colour"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(capsys, arguments, words):
    refused(capsys, words, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a large red star " * 12], "would be cut off; shorten it"),
        (["--prompt", STAR, "--size", "100x100"], "size 100x100 is not a multiple of 8 pixels on both sides; try"),
        (["--prompt", STAR, "--size", "64x64"], "size 64x64 is 64 image tokens"),
        (["--prompt", STAR, "--seed", str(2**63)], "seed must be a whole number from 0 to 2^63 - 1"),
    ],
    ids=lambda value: " ".join(value[-2:])[:40] if isinstance(value, list) else "",
)
def test_a_request_that_the_engines_cannot_draw_gets_one_line_too(capsys, demo_engines, tmp_path, arguments, words):
    refused(capsys, words, "--engines", str(demo_engines), "--out", str(tmp_path), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_engines_that_were_not_built_yet_name_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, "Build it: hybridstitch-trt build --pair demo --backend onnxruntime", "--prompt", STAR)


@pytest.fixture
def own_recipe(tmp_path, monkeypatch):
    """The demo pair, by a recipe of one's own that lies where the command is typed."""
    monkeypatch.chdir(tmp_path)
    shipped = Recipe.load("demo")
    text = (shipped.folder / "demo.toml").read_text().replace('"demo/', f'"{shipped.folder}/demo/')
    path = tmp_path / "my pair.toml"
    path.write_text(text.replace('name = "demo"', 'name = "mine"'))
    return path


@pytest.mark.parametrize("command", ["run", "inspect", "verify"])
def test_the_build_command_that_is_told_takes_a_recipe_of_ones_own(capsys, own_recipe, command):
    prompt = ["--prompt", STAR] if command == "run" else []
    assert main([command, "--pair", own_recipe.name, *prompt]) == 2
    told = capsys.readouterr().err
    pasted = shlex.split(told[told.index("hybridstitch-trt build") :])[1:]
    assert Recipe.load(parser().parse_args(pasted).pair).name == "mine"


def test_a_picture_of_a_recipe_of_ones_own_says_what_is_needed_to_draw_it_again(run, capsys, own_recipe, tmp_path):
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    run("--prompt", HEART, *QUICK, "--out", str(first))
    first.write_bytes(encode_png(Image.open(first), {**read_metadata(first), "pair": "mine"}))
    refused(
        capsys, "a.png was drawn by pair 'mine', a recipe of its own: add --pair and that .toml file", "--like", "a.png"
    )
    own_recipe.write_text(own_recipe.read_text().replace('name = "mine"', 'name = "demo"'))  # whose engines are here
    code, _, stderr = run("--like", "a.png", "--pair", own_recipe.name, "--out", str(again))
    assert code == 0, stderr
    assert Image.open(first).tobytes() == Image.open(again).tobytes()


def test_an_engine_file_cut_short_is_told(capsys, demo_engines, tmp_path):
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(demo_engines, folder)
    plan = next((folder / "large").glob("plan-*"))
    plan.write_bytes(plan.read_bytes()[:-1000])
    refused(capsys, "is cut short", "--prompt", STAR, "--engines", str(folder))


def test_a_damaged_tokenizer_is_told_and_building_again_mends_it(capsys, demo_onnx, demo_engines, tmp_path):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(demo_engines, folder)
    tokenizer = next(folder.glob("assets-*/tokenizer/tokenizer.json"))
    tokenizer.write_text(tokenizer.read_text()[:-100])
    refused(capsys, "are not as they were exported. Build them again", "--prompt", STAR, "--engines", str(folder))
    assert main(["build", "--onnx", str(demo_onnx), "--out", str(folder)]) == 0
    assert tokenizer.read_bytes() == (demo_onnx / "assets" / "tokenizer" / "tokenizer.json").read_bytes()
    capsys.readouterr()


def test_an_engine_of_another_pair_or_version_is_told(capsys, demo_engines, tmp_path):
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(demo_engines, folder)
    manifest = folder / "small" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "backend_version": "0.1"}))
    refused(capsys, "0.1", "--prompt", STAR, "--engines", str(folder))
    manifest.write_text(json.dumps({**content, "pair": "sd35"}))
    refused(capsys, "'sd35'", "--prompt", STAR, "--engines", str(folder))


def test_a_recipe_with_an_unknown_key_names_it(capsys, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\ncolour = "red"\n')
    refused(capsys, "mine.toml: unknown key 'colour'", "--prompt", STAR, "--pair", str(recipe))


@pytest.mark.parametrize("backend", ["tensorrt_rtx"])
def test_a_gpu_backend_without_a_gpu_says_so(capsys, demo_engines, backend):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused(capsys, "GPU", "--prompt", STAR, "--backend", backend, "--engines", str(demo_engines))


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_device_that_nobody_knows_is_one_line(capsys, demo_engines, backend):
    named = ("--backend", backend, "--device", "banana", "--engines", str(demo_engines))
    refused(capsys, "unknown device 'banana'; this machine has cpu", "--prompt", STAR, *named)


def test_a_disk_that_is_full_leaves_nothing_half_written(capsys, demo_engines, tmp_path, monkeypatch):
    def full(whole, path):
        if path.suffix == ".png" and "-mask" not in path.name:
            raise OSError(28, "No space left on device")
        link(whole, path)

    link = os.link
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "replace", full)
    run = ["run", "--engines", str(demo_engines), "--prompt", HEART, *QUICK, "--save-mask", "--out", str(tmp_path)]
    assert main(run) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_not_ours_cannot_be_drawn_again(capsys, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    refused(capsys, "does not say how it was made", "--like", str(tmp_path / "plain.png"))
    refused(capsys, "it is no picture", "--like", str(tmp_path / "text.png"))


def test_ctrl_c_stops_with_one_line(run, capsys, monkeypatch):
    monkeypatch.setattr("hybridstitch.method.sampler.advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, stderr = run("--prompt", HEART)
    assert code == 130
    assert "hybridstitch-trt run: stopped" in stderr


def test_the_command_itself_exits_with_2_and_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "hybridstitch.cli", "run", "--pair", "nope", "--prompt", HEART],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_the_command_line_knows_every_backend():
    from hybridstitch.cli.arguments import BACKENDS
    from hybridstitch.engines import backends

    assert set(BACKENDS) == set(backends.BACKENDS)


@pytest.mark.parametrize("command", ["run", "build", "export"])
def test_every_command_explains_itself(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--pair" in capsys.readouterr().out
