"""May this picture leave? Decided by the image's own header and by what is to be seen, never by who asks.

Only whole kinds of images are let through; what is not known is refused. Heads are faces: a stack of slices can be turned
into one, a single slice cannot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from models.remote_errors import PictureNotReleasable, TextInPicture
from node.remote.text_detector import find_text
from node.settings import RemoteSection

Grey = npt.NDArray[np.uint8]

_MODALITIES = frozenset({"CT", "MR", "CR", "DX", "MG", "PT", "NM"})
"""Others show text as a rule (ultrasound, secondary capture, endoscopy) or a face (photographs): never."""
_CLASSES = (
    *(
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.4.1.1.4",
        "1.2.840.10008.5.1.4.1.1.1",
        "1.2.840.10008.5.1.4.1.1.128",
    ),
    *("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.20"),
)
"""CT, MR, CR and DX/MG, PET and nuclear medicine, each with its enhanced and legacy converted forms."""
_CAPTURE_WORDS = "SCREEN SAVE,SECONDARY CAPTURE,SCREENSHOT,REPORT,DOSE,DOSE INFO,PRESENTATION,CAPTURE"
_CAPTURES = frozenset(_CAPTURE_WORDS.split(","))
# SPINE is not among them: a whole spine, or a neck called so, has a chin.
_HEADLESS = frozenset(
    (
        *(
            "CHEST",
            "THORAX",
            "LUNG",
            "HEART",
            "ABDOMEN",
            "PELVIS",
            "HIP",
            "KNEE",
            "ANKLE",
            "FOOT",
            "LEG",
            "ARM",
            "HAND",
        ),
        *(
            "WRIST",
            "ELBOW",
            "SHOULDER",
            "LSPINE",
            "TSPINE",
            "BREAST",
            "LIVER",
            "KIDNEY",
            "PROSTATE",
            "EXTREMITY",
        ),
    )
)


class PictureGate:
    """Lets pictures through, or refuses them, one request at a time.

    Parameters
    ----------
    policy : RemoteSection
    """

    def __init__(self, policy: RemoteSection) -> None:
        self._policy = policy

    def release(self, pictures: Sequence[tuple[Grey, Dataset]]) -> list[Grey]:
        """The pictures as they may leave, blackened where the policy says so.

        Parameters
        ----------
        pictures : sequence of (numpy.ndarray, Dataset)
            uint8 rows × columns, and the header of the image it was made from.

        Raises
        ------
        PictureNotReleasable, TextInPicture
            One of them may not.
        """
        for _, header in pictures:
            _require_known_kind(header)
        self._require_no_face([header for _, header in pictures])
        return [self._without_text(grey, header) for grey, header in pictures]

    def _require_no_face(self, headers: Sequence[Dataset]) -> None:
        heads = [header for header in headers if _may_be_head(header)]
        if not heads:
            return
        if self._policy.head == "nothing":
            raise PictureNotReleasable("images of the head never leave here, by remote.head")
        if all(str(header.get("RecognizableVisualFeatures", "")).strip().upper() == "NO" for header in heads):
            return
        if self._policy.head == "defaced":
            raise PictureNotReleasable(
                "the images may show a face: Recognizable Visual Features (0028,0302) is not NO, and remote.head asks for it"
            )
        if len(heads) > self._policy.head_slices:
            raise PictureNotReleasable(
                f"{len(heads)} slices of a head would leave and remote.head_slices allows {self._policy.head_slices}"
            )

    def _without_text(self, grey: Grey, header: Dataset) -> Grey:
        regions = [
            region
            for each in self._policy.clean
            if each.modality == str(header.get("Modality", ""))
            for region in each.regions
        ]
        said = str(header.get("BurnedInAnnotation", "")).strip().upper()
        if said != "NO" and not (regions and said == ""):
            raise TextInPicture(f"Burned In Annotation (0028,0301) is {said or 'absent'}, not NO")
        grey = _blackened(grey, regions)
        if found := find_text(grey):
            raise TextInPicture(f"{len(found)} place(s) in the picture look like text", places=len(found))
        return grey


def _require_known_kind(header: Dataset) -> None:
    modality = str(header.get("Modality", "")).strip()
    if modality not in _MODALITIES:
        raise PictureNotReleasable(f"images of modality {modality or 'unknown'} never leave")
    sop_class = str(header.get("SOPClassUID", ""))
    if not any(sop_class == known or sop_class.startswith(f"{known}.") for known in _CLASSES):
        raise PictureNotReleasable(f"objects of class {sop_class or 'unknown'} never leave")
    kinds = {str(each).strip().upper() for each in header.get("ImageType", None) or ()}
    if kinds & _CAPTURES or "ConversionType" in header:
        raise PictureNotReleasable("a captured screen never leaves")
    if any(element.tag.group & 0xFF01 == 0x6000 for element in header):
        raise PictureNotReleasable("an image with an overlay plane (60xx) never leaves")
    if str(header.get("PhotometricInterpretation", "MONOCHROME2")).strip() not in ("MONOCHROME1", "MONOCHROME2"):
        raise PictureNotReleasable("colour images never leave")


def _may_be_head(header: Dataset) -> bool:
    """Whether a cross-section may be of a head: it is, unless its body part is known to be another one."""
    if str(header.get("Modality", "")) not in ("CT", "MR", "PT"):
        return False
    return str(header.get("BodyPartExamined", "")).strip().upper() not in _HEADLESS


def _blackened(grey: Grey, regions: Sequence[tuple[float, float, float, float]]) -> Grey:
    rows, columns = grey.shape
    cleaned = grey.copy() if regions else grey
    for left, top, right, bottom in regions:
        cleaned[
            int(np.floor(top * rows)) : int(np.ceil(bottom * rows)),
            int(np.floor(left * columns)) : int(np.ceil(right * columns)),
        ] = 0
    return cleaned
