"""Characters of objects: nothing lost, nothing replaced in silence, and readable by programs of others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.character_set import fit, iso_2022
from dicom_sr.check import check
from dicom_sr.checks.subject import walk
from dicom_sr.errors import CharacterUnencodable
from dicom_sr.profile import Profile
from models.results import Draft
from node.jobs.execution import execute
from node.jobs.specification import Failure, JobSpec
from node.settings import ProfileSection
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import REPORTS, Case, context, phantom_case
from tests.unit.dicom_sr_objects.test_source_header import damaged

KANJI = "ISO 2022 IR 87"
HALF_WIDTH = "ISO 2022 IR 13"
NAMES = {
    # 春, 十 and 修 hold the bytes of = and ^ within two-byte characters.
    "Yamada^Shuu=山田^修=やまだ^しゅう": [KANJI],
    "Haru^Juu=春^十=はる^じゅう": [KANJI],
    "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう": [KANJI, HALF_WIDTH],
    "Smith^John": [KANJI],
}


def japanese(**changes: object) -> Profile:
    return Profile(character_set="iso-2022-jp", **changes)  # type: ignore[arg-type]


def named(case: Case, name: str) -> Case:
    return damaged(case, PatientName=name, SpecificCharacterSet="ISO_IR 192")


def text(value: str, profile: Profile, keyword: str = "PatientComments") -> bytes:
    """Bytes a text becomes."""
    dataset = Dataset()
    setattr(dataset, keyword, value)
    fit(dataset, profile)
    element = dataset[keyword].value
    if keyword == "PatientName":
        return bytes(element.original_string)
    return element if isinstance(element, bytes) else str(element).encode("ascii")


@pytest.mark.parametrize("name", NAMES)
def test_names_and_texts_of_every_object_are_read_back(name: str, case: Case) -> None:
    subject = named(case, name)
    written = (
        Draft("ja", "所見ﾃｽﾄ 12.3±0.4 mL\n右。", "印象 × 2。") if HALF_WIDTH in NAMES[name] else case.result.drafts[-1]
    )
    result = replace(case.complete, drafts=(written,))
    rendered = subject.rendered(result, objects=REPORTS, character_set="iso-2022-jp")
    check(rendered, subject.study, result, subject.source, profile=japanese())
    for each in rendered:
        read = dcmread(BytesIO(each.encoded))
        assert str(read.PatientName) == name
        assert list(read.SpecificCharacterSet) == ["ISO 2022 IR 6", *NAMES[name]]


def test_every_character_of_the_set_survives_between_delimiters() -> None:
    everything = [chr(n) for n in range(0x80, 0x10000) if _is_jis(chr(n))]
    assert len(everything) >= 6800
    for start in range(0, len(everything), 40):
        for keyword, template in (("PatientComments", "a\\{0}\r\n{0}b"), ("PatientName", "A^B={0}^{0}=C")):
            value = template.format("".join(everything[start : start + 40]))
            dataset = Dataset()
            setattr(dataset, keyword, value)
            fit(dataset, japanese())
            encoded = text(value, japanese(), keyword)
            assert encoded.decode("iso2022_jp") == value
            assert encoded.isascii()


def _is_jis(character: str) -> bool:
    encoded = character.encode("euc_jp", "ignore")
    return len(encoded) == 2 and encoded[0] >= 0xA1


def test_katakana_of_half_width_switch_on_and_off() -> None:
    assert iso_2022("Aｱ山ｲ\r\nｳB") == (b"A\x1b)I\xb1\x1b$B;3\x1b(B\x1b)I\xb2\x1b(B\r\n\x1b)I\xb3\x1b(BB")


@pytest.mark.parametrize(
    ("value", "replacements", "expected"),
    [
        ("～－", (), "〜−"),  # one character of JIS, two of Unicode
        ("mm²", (), "mm2"),
        ("10⁻⁶", (), "10^-6"),
        ("①髙", (("①", "(1)"), ("髙", "高")), "(1)高"),
        ("±×°§", (), "±×°§"),
    ],
)
def test_what_stands_for_a_character(value: str, replacements: tuple, expected: str) -> None:
    assert text(value, japanese(character_replacements=replacements)).decode("iso2022_jp") == expected


@pytest.mark.parametrize(
    ("keyword", "value", "replacements"),
    [
        ("PatientComments", "髙", ()),
        ("PatientComments", "Müller", ()),
        ("PatientComments", "김", ()),
        ("PatientComments", "¥", ()),
        ("PatientComments", "髙", (("髙", "𠮷"),)),
        ("PatientName", "A²", ()),  # notation is not for names
        ("PatientName", "A髙", (("髙", "=B"),)),
        ("StudyDescription", "髙", (("髙", "a\\b"),)),
    ],
)
def test_what_nothing_stands_for_is_refused(keyword: str, value: str, replacements: tuple) -> None:
    with pytest.raises(CharacterUnencodable) as caught:
        text(value, japanese(character_replacements=replacements), keyword)
    assert caught.value.code == "RES-004"
    assert value not in str(caught.value)
    assert caught.value.detail["characters"][0].startswith("U+")


def test_site_table_is_part_of_what_the_check_expects(case: Case) -> None:
    profile = japanese(character_replacements=(("髙", "高"),))
    subject = named(case, "Takahashi^Jirou=髙橋^次郎=たかはし^じろう")
    rendered = subject.rendered(character_set="iso-2022-jp", character_replacements=profile.character_replacements)
    check(rendered, subject.study, subject.result, subject.source, profile=profile)
    assert "=高橋^" in str(dcmread(BytesIO(rendered[0].encoded)).PatientName)


# Programs of others


def by_dcmtk(path: Path) -> str:
    """Names and texts as DCMTK splits them, converted by the C library. (DCMTK's own conversion lacks IR 87 here.)"""
    command = [require("dcmdump"), "-q", "+L", "+P", "0010,0010", "+P", "0040,a160", str(path)]
    dumped = subprocess.run(command, capture_output=True, check=True).stdout
    done = subprocess.run([require("iconv"), "-f", "ISO-2022-JP", "-t", "UTF-8"], input=dumped, capture_output=True)
    return done.stdout.decode()


def by_pixelmed(path: Path) -> str:
    jar = Path("/usr/share/java/pixelmed.jar")
    if not jar.exists():
        pytest.skip("PixelMed is not installed (see `make peers`)")
    command = [require("java"), "-Dfile.encoding=UTF-8", "-cp", str(jar), "com.pixelmed.dicom.AttributeList", str(path)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout.decode()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("Yamada^Shuu=山田^修=やまだ^しゅう", by_dcmtk),
        ("Yamada^Shuu=山田^修=やまだ^しゅう", by_pixelmed),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", by_pixelmed),
    ],
)
def test_other_programs_read_the_same(name: str, reader: Callable[[Path], str], case: Case, tmp_path: Path) -> None:
    subject = named(case, name)
    rendered = subject.rendered(objects=("text",), character_set="iso-2022-jp")
    path = tmp_path / "text.dcm"
    path.write_bytes(next(r.encoded for r in rendered if r.role == "text-ja"))
    read = reader(path)
    assert name in read
    assert "AIによる下書き・医師未確認" in read
    assert case.result.drafts[1].impression.splitlines()[0] in read


@pytest.mark.peer
@pytest.mark.parametrize("name", ["Müller^Jürgen", "Люкceмбypг", "김^희중", "Wang^XiaoDong=王^小東"])
def test_dcmtk_converts_unicode(name: str, case: Case, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_bytes(named(case, name).rendered(objects=("text",))[0].encoded)
    out = subprocess.run(
        [require("dcmdump"), "-q", "+U8", "+P", "0010,0010", str(path)], capture_output=True, check=True
    )
    assert f"[{name}]" in out.stdout.decode()


# The node


def test_a_name_that_does_not_fit_becomes_a_status_in_unicode(tmp_path: Path) -> None:
    from dicom_sr.phantom_study import JAPANESE_PATIENT
    from models.registry import Registry

    patient = replace(JAPANESE_PATIENT, name="Kim^Huijung=김^희중", character_set=("ISO_IR 192",))
    study = phantom_case(tmp_path / "study", patient=patient)
    (tmp_path / "out").mkdir()
    spec = JobSpec(
        job_id=1,
        study_uid=str(study.study.study_uid),
        rule="r",
        model_id="infarct-adc-baseline",
        files=[Path(file) for file in study.files],
        profiles={"jp": ProfileSection(character_set="iso-2022-jp")},
        languages=["ja"],
        identity=context().identity,
        output_dir=tmp_path / "out",
        deadline_seconds=60.0,
    )
    (written,) = execute(spec, Registry()).objects
    read = dcmread(written.path)
    assert (written.role, read.SpecificCharacterSet, str(read.PatientName)) == ("status", "ISO_IR 192", patient.name)
    words = " ".join(str(entry.get("TextValue", "")) for entry in walk(read))
    assert "RES-004" in words
    assert "김" not in words

    not_run = spec.model_copy(update={"status_only": Failure(code="MOD-005", message="out of memory")})
    for old in written.path.parent.rglob("*.dcm"):
        old.unlink()
    (tmp_path / "out" / "jp").rmdir()
    (written,) = execute(not_run, Registry()).objects
    read = dcmread(written.path)
    assert (read.SpecificCharacterSet, str(read.PatientName)) == ("ISO_IR 192", patient.name)
    words = " ".join(str(entry.get("TextValue", "")) for entry in walk(read))
    assert "MOD-005" in words
