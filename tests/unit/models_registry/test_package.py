"""A model leaves one node and comes to another: the same model, whole, and nothing of the site."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.card import CARD_FILE, Card, file_digest
from models.errors import CardInvalid, DigestMismatch, NodeError, OutsideData, PackageInvalid
from models.export.imported import REPORT_FILE as IMPORT_REPORT
from models.export.imported import Imported
from models.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, PackagedFile
from models.package import REPORT_KEYS, install_package, write_package
from models.registry import Registry
from models.volume import Volume
from node.cli import main
from tests.unit.models_registry.test_outside_data import _model


def files_of(package: Path) -> dict[str, bytes]:
    with tarfile.open(package) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def pack(path: Path, files: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    """A tar file as anybody might make one."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if change is not None:
                change(member)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["spots.tar", "package"])
def test_round_trip_gives_the_same_model(spots: Path, tmp_path: Path, name: str) -> None:
    model = Registry([spots]).get("bright-spots")
    manifest = write_package(model, tmp_path / name)
    assert manifest.digest == model.digest and set(manifest.files) == {"main.onnx", CARD_FILE}
    install_package(tmp_path / name, tmp_path / "other" / "spots")
    other = Registry([tmp_path / "other"]).get("bright-spots")
    assert other.digest == model.digest
    image = Volume(np.ones((4, 4, 4), np.float32), np.eye(4))
    assert other.run({"image": image}, {}).outcome is model.run({"image": image}, {}).outcome
    # What was installed from a package can be passed on, the same bytes again.
    write_package(other, tmp_path / "again.tar")
    write_package(model, tmp_path / "once.tar")
    assert file_digest(tmp_path / "again.tar") == file_digest(tmp_path / "once.tar")


def test_a_folder_is_installed_by_putting_it_there(spots: Path, tmp_path: Path) -> None:
    model = Registry([spots]).get("bright-spots")
    write_package(model, tmp_path / "other" / "anything")
    assert Registry([tmp_path / "other"]).get("bright-spots").digest == model.digest
    write_package(model, tmp_path / "unpacked.tar")
    with tarfile.open(tmp_path / "unpacked.tar") as archive:
        archive.extractall(tmp_path / "third", filter="data")
    assert Registry([tmp_path / "third"]).get("bright-spots").digest == model.digest


def test_nothing_of_the_site_goes_in(spots: Path, tmp_path: Path) -> None:
    folder = spots / "spots"
    (folder / "training.json").write_text('{"patients": ["TANAKA"]}')
    (folder / "notes.txt").write_text("TANAKA")
    report = {key: 1 for key in REPORT_KEYS}
    (folder / IMPORT_REPORT).write_text(json.dumps({**report, "imported_by": "TANAKA", "folder": str(folder)}))
    write_package(Registry([spots]).get("bright-spots"), tmp_path / "spots.tar")
    content = (tmp_path / "spots.tar").read_bytes()
    assert b"TANAKA" not in content and str(tmp_path).encode() not in content
    with tarfile.open(tmp_path / "spots.tar") as archive:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in archive} == {(0, 0, "", "", 0, 0o644)}
        assert [Path(m.name).name for m in archive] == [MANIFEST_FILE, REPORT_FILE, "main.onnx", CARD_FILE]
    install_package(tmp_path / "spots.tar", tmp_path / "there")
    assert json.loads((tmp_path / "there" / REPORT_FILE).read_text()) == report


def test_the_report_is_what_an_import_writes(spots: Path) -> None:
    card = Card.load(spots / "spots")
    imported = Imported("medsam", spots / "spots" / "main.onnx", card, graphs=(), keys=1)
    assert set(imported.report()) == REPORT_KEYS and IMPORT_REPORT == REPORT_FILE
    assert {each.name for each in dataclasses.fields(Imported)} >= {"system", "checkpoint"}


def test_files_that_are_not_as_pinned_are_not_exported(spots: Path, tmp_path: Path) -> None:
    with (spots / "spots" / "main.onnx").open("ab") as stream:
        stream.write(b"\0")
    for name in ("spots.tar", "folder"):
        with pytest.raises(DigestMismatch, match=r"main\.onnx"):
            write_package(Registry([spots]).get("bright-spots"), tmp_path / "out" / name)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_weights_beside_the_graph_go_along(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(np.ones((512, 1024), np.float32).tobytes())
    registry = _model(tmp_path, "below/weights.bin", {"below/weights.bin": weights})
    (tmp_path / "site" / "outside" / "below").mkdir()
    shutil.copy(weights, tmp_path / "site" / "outside" / "below")
    write_package(registry.get("outside"), tmp_path / "out.tar")
    install_package(tmp_path / "out.tar", tmp_path / "other" / "outside")
    model = Registry([tmp_path / "other"]).get("outside")
    assert model.digest == registry.get("outside").digest
    assert model.session("main").run({"x": np.zeros((512, 1024), np.float32)})["y"].min() == 1


def test_a_package_whose_graph_reaches_out_is_not_installed(tmp_path: Path) -> None:
    """Made by hand, with every digest right."""
    registry = _model(tmp_path, "../weights.bin", {})
    model = registry.get("outside")
    names = ("main.onnx", CARD_FILE)
    facts = {name: PackagedFile.of((model.folder / name).read_bytes()) for name in names}
    manifest = Manifest(model="outside", version=model.card.version, digest=model.digest, files=facts)
    files = {f"outside/{name}": (model.folder / name).read_bytes() for name in names}
    package = pack(tmp_path / "out.tar", {**files, f"outside/{MANIFEST_FILE}": manifest.encoded()})
    with pytest.raises(OutsideData):
        install_package(package, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_graph_without_its_weights_is_not_exported(tmp_path: Path) -> None:
    registry = _model(tmp_path, "main.onnx.data", {})
    with pytest.raises(OutsideData, match="not pinned"):
        write_package(registry.get("outside"), tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_an_installed_model_is_never_replaced(spots: Path, tmp_path: Path) -> None:
    model = Registry([spots]).get("bright-spots")
    write_package(model, tmp_path / "spots.tar")
    before = (tmp_path / "spots.tar").read_bytes()
    with pytest.raises(PackageInvalid, match="exists"):
        write_package(model, tmp_path / "spots.tar")
    with pytest.raises(PackageInvalid, match="exists"):
        install_package(tmp_path / "spots.tar", spots / "spots")
    assert (tmp_path / "spots.tar").read_bytes() == before


TOP = "bright-spots-0.1"


def _changed_graph(files: dict[str, bytes]) -> None:
    files[f"{TOP}/main.onnx"] = files[f"{TOP}/main.onnx"][:-1] + b"\0"


def _longer_graph(files: dict[str, bytes]) -> None:
    files[f"{TOP}/main.onnx"] += b"\0"


def _changed_card(files: dict[str, bytes]) -> None:
    files[f"{TOP}/{CARD_FILE}"] += b"# read\n"


def _edit_manifest(files: dict[str, bytes], change: Callable[[dict], None]) -> None:
    content = json.loads(files[f"{TOP}/{MANIFEST_FILE}"])
    change(content)
    files[f"{TOP}/{MANIFEST_FILE}"] = json.dumps(content).encode()


def _other_digest(files: dict[str, bytes]) -> None:
    _edit_manifest(files, lambda content: content.update(digest="0" * 64))


def _other_model(files: dict[str, bytes]) -> None:
    _edit_manifest(files, lambda content: content.update(model="infarct-adc-baseline"))


def _named_but_missing(files: dict[str, bytes]) -> None:
    del files[f"{TOP}/main.onnx"]


def _not_in_manifest(files: dict[str, bytes]) -> None:
    files[f"{TOP}/extra.bin"] = b"x"


def _not_pinned(files: dict[str, bytes]) -> None:
    files[f"{TOP}/run.sh"] = b""
    empty = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 0}
    _edit_manifest(files, lambda content: content["files"].update({"run.sh": empty}))


def _outside(files: dict[str, bytes]) -> None:
    files[f"{TOP}/../escaped"] = b""
    empty = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "size": 0}
    _edit_manifest(files, lambda content: content["files"].update({"../escaped": empty}))


def _two_folders(files: dict[str, bytes]) -> None:
    files["other/main.onnx"] = files[f"{TOP}/main.onnx"]


def _no_manifest(files: dict[str, bytes]) -> None:
    del files[f"{TOP}/{MANIFEST_FILE}"]


def _bad_manifest(files: dict[str, bytes]) -> None:
    files[f"{TOP}/{MANIFEST_FILE}"] = b"[]"


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (_changed_graph, DigestMismatch),
        (_longer_graph, DigestMismatch),
        (_changed_card, DigestMismatch),
        (_other_digest, DigestMismatch),
        (_other_model, PackageInvalid),
        (_named_but_missing, PackageInvalid),
        (_not_in_manifest, PackageInvalid),
        (_not_pinned, PackageInvalid),
        (_outside, PackageInvalid),
        (_two_folders, PackageInvalid),
        (_no_manifest, PackageInvalid),
        (_bad_manifest, PackageInvalid),
    ],
)
def test_what_is_not_as_stated_is_not_installed(
    spots: Path, tmp_path: Path, harm: Callable[[dict[str, bytes]], None], error: type[NodeError]
) -> None:
    write_package(Registry([spots]).get("bright-spots"), tmp_path / "spots.tar")
    files = files_of(tmp_path / "spots.tar")
    harm(files)
    target = tmp_path / "site2" / "spots"
    with pytest.raises(error):
        install_package(pack(tmp_path / "harmed.tar", files), target)
    assert not list(target.parent.iterdir()) and not (tmp_path / "escaped").exists()
    # The same in a folder.
    folder = tmp_path / "unpacked"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if harm not in (_two_folders, _outside):
        with pytest.raises(error):
            install_package(folder / TOP, target)
        assert not list(target.parent.iterdir())


def test_links_are_no_files(spots: Path, tmp_path: Path) -> None:
    write_package(Registry([spots]).get("bright-spots"), tmp_path / "spots.tar")
    files = files_of(tmp_path / "spots.tar")

    def to_link(member: tarfile.TarInfo) -> None:
        if member.name.endswith("main.onnx"):
            member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0

    with pytest.raises(PackageInvalid, match="link"):
        install_package(pack(tmp_path / "linked.tar", files, to_link), tmp_path / "there")
    folder = tmp_path / "folder"
    write_package(Registry([spots]).get("bright-spots"), folder)
    shutil.move(folder / "main.onnx", tmp_path / "elsewhere.onnx")
    (folder / "main.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(PackageInvalid, match="link"):
        install_package(folder, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100, None])
def test_a_broken_file_is_refused(spots: Path, tmp_path: Path, content: bytes | None) -> None:
    package = tmp_path / "spots.tar"
    write_package(Registry([spots]).get("bright-spots"), package)
    package.write_bytes(package.read_bytes()[:3000] if content is None else content)
    with pytest.raises((PackageInvalid, DigestMismatch, CardInvalid)):
        install_package(package, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_manifest_names_only_what_lies_inside() -> None:
    facts = {"sha256": "0" * 64, "size": 0}
    for name in ("/etc/passwd", "../up", "a/../../b", "C:\\x", "a\\b", MANIFEST_FILE, ""):
        content = {"model": "m", "version": "1", "digest": "0" * 64, "files": {name: facts}}
        with pytest.raises(PackageInvalid):
            Manifest.read(json.dumps(content).encode())


def test_command_line(spots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n[models]\nfolders = ["{spots}"]\n')
    package = str(tmp_path / "spots.tar")
    words = ["--config", str(config), "models"]
    assert main([*words, "export", "bright-spots", "--out", package]) == 0
    digest = Registry([spots]).get("bright-spots").digest
    assert digest in capsys.readouterr().out
    assert main([*words, "export", "bright-spots", "--out", package]) == 2
    assert main([*words, "export", "no-such", "--out", f"{package}.other"]) == 1
    assert main([*words, "import", package, "--out", str(tmp_path / "other" / "spots")]) == 0
    assert digest in capsys.readouterr().out
    assert Registry([tmp_path / "other"]).get("bright-spots").digest == digest
    assert main([*words, "import", package, "--out", str(tmp_path / "other" / "spots")]) == 2
    assert main([*words, "import", "medsam", "--out", str(tmp_path / "third")]) == 2
    assert "name its system" in capsys.readouterr().err


def test_a_chain_says_what_it_is_made_of(tmp_path: Path) -> None:
    model = Registry().get("stroke-dwi-medsam")
    manifest = write_package(model, tmp_path / "chain.tar")
    assert manifest.needs == model.members and {"infarct-network", "medsam"} <= set(manifest.needs)
