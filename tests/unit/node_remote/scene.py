"""A study that names its patient in every way there is, and a desk with an endpoint on loopback."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_sr.identity import OFFLINE
from models.picture import grey_picture, write_png
from node.jobs.specification import JobSpec
from node.remote.desk import RemoteDesk
from node.settings import EndpointSection, RemoteSection, Settings

FONT = Path(__file__).resolve().parents[3] / "dicom_sr/fonts/NotoSansJP-Regular.ttf"
NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"
SECRETS = (
    *("yamada", "tarou", "taro", "山田", "太郎", "やまだ", "ヤマダ", "00123456", "123456", "ACC-98765", "19600131"),
    *(
        "1960-01-31",
        "1960/01/31",
        "昭和35年1月31日",
        "S35.1.31",
        "31 Jan 1960",
        "Nishi",
        "西病院",
        "090-1234-5678",
        "HIDDEN-77812",
    ),
)
"""What must not leave, in some of the spellings it has."""


def header(number: int, *, burned_in: str | None = "NO", body_part: str = "BRAIN") -> Dataset:
    """One MR slice with identifying values in standard, nested and private attributes; pixels are the caller's."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = MRImageStorage, f"1.2.3.4.5.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4.5", "1.2.3.4.5.0"
    made.Modality, made.BodyPartExamined = "MR", body_part
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PatientName, made.PatientID, made.PatientBirthDate = NAME, "00123456", "19600131"
    made.OtherPatientIDs = ["ZZ-4711-9"]
    made.AccessionNumber, made.StudyDate, made.StudyTime = "ACC-98765", "20261124", "101500"
    made.ReferringPhysicianName, made.InstitutionName = "Nishi^Ichiro=西^一郎", "西病院"
    made.PatientTelephoneNumbers = "090-1234-5678"
    request = Dataset()
    request.RequestedProcedureID, request.RequestingPhysician = "RP55512", "Kita^Jiro"
    made.RequestAttributesSequence = [request]
    block = made.private_block(0x0029, "SITE", create=True)
    block.add_new(0x10, "LO", "HIDDEN-77812")
    block.add_new(0x11, "LT", "call Minami^Saburo about this one")
    if burned_in is not None:
        made.BurnedInAnnotation = burned_in
    made.PhotometricInterpretation, made.SamplesPerPixel = "MONOCHROME2", 1
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    return made


def head(size: int = 256) -> npt.NDArray[np.uint16]:
    """A smooth head with some noise, 12 bit."""
    y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
    inside = np.clip(1 - 4.6 * (x**2 + (y / 1.15) ** 2), 0, 1) ** 0.4
    noise = np.random.default_rng(7).normal(0, 12, (size, size))
    return np.clip(900 * inside * (1 + 0.15 * np.sin(9 * x) * np.cos(7 * y)) + noise + 15, 0, 4095).astype(np.uint16)


def burn_in(
    pixels: npt.NDArray[np.uint16], text: str, *, size: int = 14, at: tuple[int, int] = (6, 4)
) -> npt.NDArray[np.uint16]:
    """Text drawn into the pixels with the largest value."""
    mask = Image.new("L", pixels.shape[::-1])
    ImageDraw.Draw(mask).text(at, text, fill=255, font=ImageFont.truetype(str(FONT), size))
    share = np.asarray(mask, np.float64) / 255
    return (pixels * (1 - share) + 4095 * share).astype(np.uint16)


def write(made: Dataset, pixels: npt.NDArray[np.uint16], folder: Path) -> Path:
    """Store an image."""
    made.Rows, made.Columns = pixels.shape
    made.PixelData = pixels.astype("<u2").tobytes()
    path = folder / f"{made.SOPInstanceUID}.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def specification(files: list[Path], folder: Path, **more: Any) -> JobSpec:
    """A run over the files."""
    return JobSpec(
        job_id=7,
        study_uid="1.2.3.4.5",
        rule="r",
        model_id="m",
        files=files,
        profiles={},
        languages=["en"],
        identity=OFFLINE,
        output_dir=folder,
        deadline_seconds=30,
        **more,
    )


def endpoint(url: str, **more: Any) -> EndpointSection:
    """An endpoint that is quick to give up."""
    quick = {"deadline_seconds": 1.0, "retry_seconds": 0.01, "attempts": 3, "model": "tiny-vlm"}
    return EndpointSection.model_validate({"url": url, **quick, **more})


def settings(folder: Path, url: str, *, enabled: bool = True, remote: Mapping[str, Any] = {}, **more: Any) -> Settings:
    """Settings with one endpoint ``medgpt``."""
    section = RemoteSection(enabled=enabled, hosts=["127.0.0.1"], endpoint={"medgpt": endpoint(url, **more)}, **remote)
    base = Settings.model_validate({"node": {"data_dir": str(folder / "data")}})
    return base.model_copy(update={"remote": section})


@dataclass
class Asking:
    """Somebody at the desk."""

    desk: RemoteDesk
    spec: JobSpec

    def ask(self, *parts: dict[str, Any], system: str = "You describe images.") -> dict[str, Any]:
        """What the child would be told."""
        wish = {"kind": "chat", "endpoint": "medgpt", "system": system, "parts": list(parts)}
        call = self.desk.begin(self.spec, {**wish, "maximum_tokens": 50, "temperature": 0.0, "seed": 0})
        assert call.done.wait(20)
        return call.reply


def picture(path: Path, *, side: int = 512) -> dict[str, Any]:
    """The picture of an image as a child would ask for it."""
    image = dcmread(path)
    png = write_png(grey_picture(image.pixel_array, side))
    return {"png": base64.b64encode(png).decode(), "sop_instance_uid": str(image.SOPInstanceUID)}


def text(words: str, *, free: bool = False) -> dict[str, Any]:
    return {"text": words, "free": free}
