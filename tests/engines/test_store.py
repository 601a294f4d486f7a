"""What a build leaves on disk, whatever happens to it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.open import open_pair
from hybridstitch.engines.store import manifest as manifest_module
from hybridstitch.engines.store.folder import MANIFEST, Store
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import Progress

from .handmade import make_recipe, name_hashes, open_engine, random_inputs, write_component, write_export

REPOSITORY = Path(__file__).parents[2]
REBUILD = r"hybridstitch-trt build --pair mini --backend onnxruntime --out \S+mini/onnxruntime$"


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "onnx")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mini" / "onnxruntime"


def build(export, folder, **options):
    return build_pair(make_recipe(), export, folder, **options)


def states(report) -> dict[str, str]:
    return {component.component: component.state for component in report.components}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_changed_is_nothing_rebuilt(export, folder):
    assert states(build(export, folder)) == {"large": "built", "small": "built"}
    before, said = content(folder), []
    assert states(build(export, folder, progress=said.append)) == {"large": "unchanged", "small": "unchanged"}
    assert content(folder) == before
    assert said == [Progress("large: unchanged", 1, 1), Progress("small: unchanged", 1, 1)]


def test_a_changed_weight_rebuilds_its_component_alone_and_says_why(export, folder):
    build(export, folder)
    write_component(export / "small", seed=1)
    report = build(export, folder)
    assert states(report) == {"large": "unchanged", "small": "built"}
    assert report.components[1].why == ("the weights",)
    assert len(list((folder / "small").glob("plan-*"))) == 1


def test_changed_profiles_rebuild_and_say_so(export, folder):
    build(export, folder)
    report = build_pair(make_recipe(batch_sizes=[1]), export, folder, components=["small"])
    assert [(c.component, c.state, c.why) for c in report.components] == [("small", "built", ("profiles",))]


def test_another_version_of_the_package_rebuilds(export, folder, monkeypatch):
    build(export, folder)
    monkeypatch.setattr("hybridstitch.engines.builders.build_pair.our_version", lambda: "99.0")
    assert build(export, folder).components[0].why == ("version",)


def test_a_damaged_plan_is_built_again(export, folder):
    build(export, folder)
    plan = next((folder / "large").glob("plan-*.onnx"))
    before = plan.read_bytes()
    plan.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    report = build(export, folder)
    assert report.components[0].why == ("its files",)
    assert plan.read_bytes() == before


def test_only_the_components_asked_for_are_built(export, folder):
    assert states(build(export, folder, components=["small"])) == {"small": "built"}
    assert Store(folder).names() == ["small"]


def test_a_built_folder_needs_nothing_of_the_export(export, folder):
    build(export, folder)
    position = load_file(export / "large" / "position.safetensors")["position"]
    shutil.rmtree(export)
    assert torch.equal(
        open_pair(folder, pair="mini", backend="onnxruntime", needed=["large"]).positions("large"), position
    )
    assert json.loads((Store(folder).assets() / "scheduler" / "scheduler_config.json").read_text()) == {"shift": 3.0}
    assert Store(folder).manifest("large").geometry is not None
    run_once(open_engine(folder, "large", backend="onnxruntime", threads=1).session(), random_inputs(2, 16, 0))


def test_changed_assets_are_taken_over_without_rebuilding(export, folder):
    build(export, folder)
    (export / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    assert set(states(build(export, folder)).values()) == {"unchanged"}
    assert json.loads((Store(folder).assets() / "scheduler" / "scheduler_config.json").read_text()) == {"shift": 1.0}
    build(export, folder)
    assert len(list(folder.glob("assets-*"))) == 1


def test_engines_of_two_exports_are_not_run_together(export, folder):
    build(export, folder)
    (export / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    build(export, folder, components=["small"])
    with pytest.raises(HybridStitchError, match=rf"the engines in \S+ mix two exports. Build them again: {REBUILD}"):
        Store(folder).assets()


def test_an_engine_that_the_pair_no_longer_has_goes_with_the_next_build(export, folder):
    shutil.copytree(export / "small", export / "text_encoder_3")
    graph = export / "text_encoder_3" / "graph.json"
    graph.write_text(graph.read_text().replace('"component": "small"', '"component": "text_encoder_3"'))
    name_hashes(export)
    build(export, folder)
    shutil.rmtree(export / "text_encoder_3")
    (export / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    build(export, folder)
    assert Store(folder).names() == ["large", "small"]
    assert Store(folder).assets().is_dir()


def test_the_command_that_builds_again_can_be_pasted(tmp_path):
    command = Store(tmp_path / "my engines", pair="pair's.toml", backend="torch").rebuild
    assert shlex.split(command)[3:] == ["pair's.toml", "--backend", "torch", "--out", str(tmp_path / "my engines")]


def test_two_builds_at_once_take_turns(export, folder):
    program = textwrap.dedent(f"""
        from hybridstitch.engines.builders.build_pair import build_pair
        from tests.engines.handmade import make_recipe
        report = build_pair(make_recipe(), {str(export)!r}, {str(folder)!r})
        print(*(component.state for component in report.components))
    """)
    builds = [
        subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(build.communicate(timeout=120)[0].strip() for build in builds)
    assert [build.returncode for build in builds] == [0, 0]
    assert said == ["built built", "unchanged unchanged"]
    open_engine(folder, "large", backend="onnxruntime", threads=1)


def test_a_waiting_build_says_so_and_goes_on_after_the_other(export, folder):
    waits, said = threading.Event(), []

    def report(progress: Progress) -> None:
        said.append(progress.what)
        waits.set()

    with ThreadPoolExecutor() as pool:
        with Store(folder).locked():
            second = pool.submit(build, export, folder, progress=report)
            assert waits.wait(timeout=60)
            assert said == [f"waiting for another build of {folder}"]
            assert not (folder / "large").exists()
        assert states(second.result(timeout=60)) == {"large": "built", "small": "built"}


def test_engines_that_were_not_built_are_told_with_the_folder_and_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = (
        "the large engine of pair 'demo' is not built: build/demo/onnxruntime holds none. "
        "Build it: hybridstitch-trt build --pair demo --backend onnxruntime"
    )
    with pytest.raises(HybridStitchError) as caught:
        open_engine(Path("build/demo/onnxruntime"), "large", backend="onnxruntime")
    assert str(caught.value) == expected


def test_a_plan_cut_short_is_told_before_it_is_read(export, folder):
    build(export, folder)
    plan = next((folder / "large").glob("plan-*.onnx"))
    size = plan.stat().st_size
    plan.write_bytes(plan.read_bytes()[: size // 2])
    with pytest.raises(
        HybridStitchError, match=rf"plan-\S+ is cut short: {size // 2} of {size} bytes. Build it again: {REBUILD}"
    ):
        open_engine(folder, "large", backend="onnxruntime")


def test_a_foreign_file_in_the_plan_s_place_is_told(export, folder):
    build(export, folder)
    plan = next((folder / "large").glob("plan-*.onnx"))
    plan.write_bytes(b"x" * plan.stat().st_size)
    with pytest.raises(
        HybridStitchError, match=r"plan-\S+ is not the file that was built: its checksum differs. Build"
    ):
        open_engine(folder, "large", backend="onnxruntime")


def test_a_plan_is_read_in_full_once_and_again_when_it_changed(export, folder, monkeypatch):
    build(export, folder)
    read = []
    monkeypatch.setattr("hybridstitch.models.digests.file_sha256", lambda path, _: read.append(path.name) or "another")
    assert set(states(build(export, folder)).values()) == {"unchanged"}
    Store(folder).check_files(Store(folder).manifest("large"))
    assert read == []
    plan = next((folder / "large").glob("plan-*.onnx"))
    before = plan.stat()
    os.utime(plan, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(HybridStitchError, match="its checksum differs"):
        Store(folder).check_files(Store(folder).manifest("large"))
    assert read == [plan.name]
    (folder / ".digests.json").write_text("{")
    monkeypatch.undo()
    Store(folder).check_files(Store(folder).manifest("large"))


def test_a_missing_plan_is_told(export, folder):
    build(export, folder)
    next((folder / "large").glob("plan-*.onnx")).unlink()
    with pytest.raises(HybridStitchError, match=r"plan-\S+ cannot be read: No such file or directory. Build it again"):
        open_engine(folder, "large", backend="onnxruntime")


def change_manifest(folder: Path, **changes) -> None:
    path = folder / "large" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend_version": "1.0.0"}, r"it was built by ONNX Runtime 1\.0\.0, here is \d+\.\d+"),
        ({"version": "0.0.1"}, r"it was built by hybridstitch-trt 0\.0\.1, here is \d"),
        ({"backend": "tensorrt"}, r"it was built for backend tensorrt, not onnxruntime"),
        ({"pair": "sd35"}, r"\S+ holds engines of pair 'sd35', not of 'mini'"),
    ],
)
def test_an_engine_of_another_making_is_refused_with_what_differs_and_the_command(export, folder, changes, message):
    build(export, folder)
    change_manifest(folder, **changes)
    with pytest.raises(HybridStitchError, match=rf"{message}.*\. Build (it again|them): {REBUILD}"):
        open_engine(folder, "large", backend="onnxruntime", pair="mini")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"is not a manifest of this version"),
        ("[]", r"is not a manifest of this version"),
        (
            '{"format": 0}',
            rf"is not a manifest of this version \(its format is 0, this version reads {manifest_module.FORMAT}\)",
        ),
        (f'{{"format": {manifest_module.FORMAT}}}', r"is not a manifest of this version \(it lacks 'pair'\)"),
        ("[" * 9999, r"is not a manifest of this version \(maximum recursion depth"),
    ],
)
def test_a_manifest_that_is_none_is_told(export, folder, text, message):
    build(export, folder)
    (folder / "large" / MANIFEST).write_text(text)
    with pytest.raises(HybridStitchError, match=message):
        Store(folder).manifest("large")
    assert states(build(export, folder)) == {"large": "built", "small": "unchanged"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "load"}, "its dtype is 'load'"),
        ({"profiles": []}, "its profiles are none"),
        ({"geometry": None}, "a transformer without geometry"),
        ({"targets": [3]}, "targets.0: Input should be a valid string, not 3"),
        ({"targets": ["GPU"]}, "its target 'GPU' is none"),
        ({"zero_text_tokens": "many"}, "zero_text_tokens: Input should be a valid integer, not 'many'"),
        ({"geometry": {"heads": 0}}, "key 'geometry.patch_size' is missing"),
        (
            {"profiles": [{"name": "full", "ranges": {"M": [9, 8, 7]}}]},
            "M has the range 9, 8, 7, which does not ascend",
        ),
    ],
)
def test_a_manifest_with_values_that_no_build_writes_is_told(export, folder, changes, message):
    build(export, folder)
    change_manifest(folder, **changes)
    with pytest.raises(HybridStitchError, match=rf"is not a manifest of this version \(.*{message}"):
        Store(folder).manifest("large")


def test_a_manifest_cannot_point_out_of_its_folder(export, folder):
    build(export, folder)
    files = json.loads((folder / "large" / MANIFEST).read_text())["files"]
    files["plan"]["name"] = "../../evil.onnx"
    change_manifest(folder, files=files)
    with pytest.raises(HybridStitchError, match=r"file '../../evil.onnx' is not in its folder"):
        Store(folder).manifest("large")


def test_files_that_are_not_ours_are_left_alone(export, folder):
    build(export, folder)
    (folder / "large" / "notes.txt").write_text("mine")
    write_component(export / "large", seed=1)
    build(export, folder)
    assert (folder / "large" / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told_in_a_line(export, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HybridStitchError, match=r"engines cannot be written to \S+: .*; choose another --out"):
        build(export, tmp_path / "file" / "mini")


def test_a_full_disk_is_told_in_a_line_and_leaves_the_old_engine(export, folder, monkeypatch):
    build(export, folder)
    before = content(folder)
    write_component(export / "large", seed=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybridstitch.engines.store.folder.flush", full)
    with pytest.raises(
        HybridStitchError, match=r"no space left to write \S+: .* GiB free; make room or choose another"
    ):
        build(export, folder)
    monkeypatch.undo()
    assert {name: content(folder)[name] for name in before} == before
    assert not list(folder.glob("*/.building-*"))


SESSION, SAVE = "onnxruntime.InferenceSession", "hybridstitch.engines.builders.build_pair.save_file"
NO_SPACE = r"no space left to write \S+: .* GiB free; make room or choose another --out"


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (SESSION, RuntimeError("Failed to write external initializers to file: x"), NO_SPACE),
        (SAVE, OSError(13, "Permission denied"), r"engines cannot be written to \S+: Permission denied; choose"),
        (SAVE, SafetensorError("I/O error: No space left on device (os error 28)"), NO_SPACE),
        ("shutil.copyfile", OSError(28, "No space left on device"), NO_SPACE),
        (SAVE, SafetensorError("I/O error: Input/output error"), r"engines cannot be written to \S+: I/O error: Input"),
    ],
)
def test_a_disk_that_fails_while_an_engine_is_written_is_told_in_a_line(
    export, folder, monkeypatch, step, error, message
):
    monkeypatch.setattr(step, lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(HybridStitchError, match=message):
        build(export, folder)
    assert not [*folder.rglob(".building-*"), *folder.rglob("plan-*")]


def test_an_asset_that_cannot_be_read_is_told_by_its_own_name(export, folder, monkeypatch):
    def copyfile(source, _):
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr("shutil.copyfile", copyfile)
    with pytest.raises(HybridStitchError, match=r"onnx/assets/pair.json cannot be read: Permission denied$"):
        build(export, folder)


def test_what_fails_beside_the_disk_while_an_engine_is_built_is_not_blamed_on_it(folder):
    folder.mkdir(parents=True)
    with pytest.raises(OSError, match="Cannot allocate memory"), Store(folder).workspace("large") as space:
        raise OSError(12, "Cannot allocate memory")
    assert not space.exists()


def test_a_disk_that_is_too_small_is_told_before_the_build(export, folder, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(HybridStitchError, match=r"not enough disk for the large engine: about 0.0 GiB needed in"):
        build(export, folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: shutil.rmtree(x), r"holds no exported pair: run hybridstitch-trt export first"),
        (lambda x: (x / "large" / "model.onnx").unlink(), r"large/model.onnx is missing; export again"),
        (lambda x: (x / "large" / "model.onnx").write_bytes(b"\xff" * 9), r"is no ONNX file, or it is cut short"),
        (
            lambda x: (x / "large" / "weights.safetensors").unlink(),
            r"weights.safetensors, the weights of large, is miss",
        ),
        (
            lambda x: cut(x / "large" / "weights.safetensors"),
            r"the weights of large, is cut short: 100 of at least \d+",
        ),
        (
            lambda x: (x / "large" / "graph.json").write_text("{}"),
            r"graph.json is not what export writes \('component'\)",
        ),
        (lambda x: (x / "large" / "graph.json").write_text("{"), r"graph.json cannot be read"),
        (lambda x: shutil.copy(x / "small" / "graph.json", x / "large"), r"holds the export of small, not of large"),
    ],
)
def test_a_damaged_export_is_told(export, folder, damage, message):
    damage(export)
    with pytest.raises(HybridStitchError, match=message):
        build(export, folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def test_the_export_of_another_pair_is_refused(export, folder):
    (export / "assets" / "pair.json").write_text('{"pair": "sd35"}')
    with pytest.raises(
        HybridStitchError, match=r"holds the export of pair 'sd35', not of 'mini'; run hybridstitch-trt exp"
    ):
        build(export, folder)


def test_a_component_that_is_not_there_is_told(export, folder):
    with pytest.raises(HybridStitchError, match=r"component 'vae_decoder' is not exported; \S+ holds large, small"):
        build(export, folder, components=["vae_decoder"])
    with pytest.raises(HybridStitchError, match=r"component 'vae' is unknown; \S+ holds large, small"):
        build(export, folder, components=["vae"])


def test_the_manifest_survives_json(built):
    manifest = Store(built).manifest("large")
    assert manifest_module.Manifest.from_json(json.loads(json.dumps(manifest.as_json()))) == manifest
