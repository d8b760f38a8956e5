"""Errors of ``dicom_sr``: series that are refused (SER-…) and objects that may not leave (RES-…)."""

from __future__ import annotations

from models.errors import NodeError, Refused

_READ_WITHOUT = "The study is to be read without AI."


class SeriesRejected(Refused):
    """A series cannot be turned into a volume, or the roles a model needs cannot be filled."""


class GantryTilt(SeriesRejected):
    code = "SER-001"
    summary = "The slices are sheared against their normal (gantry tilt)."
    remedy = f"Send a series reconstructed without tilt. {_READ_WITHOUT}"


class MissingSlice(SeriesRejected):
    code = "SER-002"
    summary = "At least one slice is missing."
    remedy = "Send the whole series again; `ainode why` names the positions."


class DuplicatePosition(SeriesRejected):
    code = "SER-003"
    summary = "Two images of one volume share a position."
    remedy = "Check whether two acquisitions share one series; `ainode why` names the positions."


class UnevenSpacing(SeriesRejected):
    code = "SER-004"
    summary = "The distance between slices varies."
    remedy = f"Send a series with constant spacing. {_READ_WITHOUT}"


class MixedOrientation(SeriesRejected):
    code = "SER-005"
    summary = "The images of the series have different orientations."
    remedy = "Check whether a localiser was stored into the series; send the planes as separate series."


class Localiser(SeriesRejected):
    code = "SER-006"
    summary = "The series is a localiser."
    remedy = "No action: route the diagnostic series."


class SingleSlice(SeriesRejected):
    code = "SER-007"
    summary = "The series has too few slices for a volume."
    remedy = f"Send the whole series. {_READ_WITHOUT}"


class UnknownUnits(SeriesRejected):
    code = "SER-008"
    summary = "The unit of the pixel values cannot be determined."
    remedy = "Check rescale or real-world value mapping at the scanner; the values fit no physical range."


class NoPixelData(SeriesRejected):
    code = "SER-009"
    summary = "The objects hold no pixel data."
    remedy = "No action if these are not images; else send the series again."


class Undecodable(SeriesRejected):
    code = "SER-010"
    summary = "The pixel data cannot be decoded."
    remedy = "Send the series uncompressed, or in a transfer syntax named in the conformance statement."


class RoleMissing(SeriesRejected):
    code = "SER-011"
    summary = "A series that the model needs is not in the study."
    remedy = "Check that the PACS routes every diffusion series, derived maps included."


class RoleAmbiguous(SeriesRejected):
    code = "SER-012"
    summary = "Several series fill the same role equally well."
    remedy = "Narrow the rule so that one remains; `ainode why` lists the candidates."


class GridMismatch(SeriesRejected):
    code = "SER-013"
    summary = "The input series do not lie on the same voxel grid."
    remedy = "Send series of one acquisition; the frame of reference and positions must agree."


class GeometryMissing(SeriesRejected):
    code = "SER-014"
    summary = "Position, orientation or spacing is absent or unusable."
    remedy = f"Send original images, not screen captures. {_READ_WITHOUT}"


class MixedPatients(SeriesRejected):
    code = "SER-015"
    summary = "The images belong to more than one patient."
    remedy = "Correct the identity at the modality or PACS, then `ainode release STUDY`."


class UnsupportedImage(SeriesRejected):
    code = "SER-016"
    summary = "The kind of image is not supported (colour, exponential ADC, several samples per pixel …)."
    remedy = "No action: route the series the model was made for."


class SeveralStudies(SeriesRejected):
    code = "SER-017"
    summary = "The files do not belong to exactly one study."
    remedy = "Give the files of one study at a time."


class MapContradicted(SeriesRejected):
    code = "SER-018"
    summary = "The ADC map contradicts the diffusion images it should come from."
    remedy = f"Check that map and images are of one acquisition, and unmirrored. {_READ_WITHOUT}"


class MarksUnusable(SeriesRejected):
    code = "SER-019"
    summary = "What was drawn cannot be used to point at something."
    remedy = "Draw an outline around it on the images themselves, and send it with its images."


class ResultError(NodeError):
    """An object could not be built, or the check before sending failed. Nothing is sent."""


class ObjectInvalid(ResultError):
    code = "RES-001"
    summary = "A result object failed the check before sending."
    remedy = "Nothing was sent but a status object. Report this with the job's number: it is a defect of the node."


class OverlayMismatch(ResultError):
    code = "RES-002"
    summary = "A segmentation, map or contour read back differs from the model's result."
    remedy = "Nothing was sent but a status object. Report this with the job's number: it is a defect of the node."


class SourceUnusable(ResultError):
    code = "RES-003"
    summary = "The source header cannot carry a result."
    remedy = "The message names the attribute; correct the images at the PACS and send them again."


class CharacterUnencodable(ResultError):
    code = "RES-004"
    summary = "A text has a character that the destination's character set lacks."
    remedy = (
        "Say in the profile's character_replacements what stands for the characters that the message names, or set its "
        "character_set to utf-8; until then the destination gets a status object in UTF-8."
    )


class AnonymisationRefused(ResultError):
    """An object cannot be made anonymous with certainty, so it is not exported."""


class MayShowIdentity(AnonymisationRefused):
    code = "ANO-001"
    summary = "Identity may be burned into the pixels, so the object is not exported."
    remedy = "No action: export images of CT, MR or PET as they were reconstructed, without screen captures."


class IdentityRemains(AnonymisationRefused):
    code = "ANO-002"
    summary = "Something that names somebody was left after anonymising, so the object is not exported."
    remedy = (
        "The message names the attribute. Have the modality leave identity out of it, or export without this series."
    )


class NotAnonymisable(AnonymisationRefused):
    code = "ANO-003"
    summary = "This kind of object holds free text or a document, so it is not exported."
    remedy = "Take text, summary, pdf and secondary_capture out of objects of the anonymous profile."


class NoAnonymisationKey(ResultError):
    code = "ANO-004"
    summary = "A profile for anonymous export was asked for without the site's secret."
    remedy = "Name the node's configuration with --config: its data folder holds the secret."
