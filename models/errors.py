"""Root of the one error tree, the register of codes, and the errors of ``models``.

::

    NodeError                     every error this product raises on purpose
    ├── (Transient)               mixed in where the same call may succeed later; only these are retried
    ├── ModelError                MOD-…   cards, graphs, inference           (this module)
    ├── Refused                   a study or series the model must not be run on; ends in a status object
    │   ├── SeriesRejected        SER-…   geometry gate and role selection   (``dicom_sr.errors``)
    │   └── NotAssessed           SUI-…   suitability of the images          (this module)
    ├── ResultError               RES-…   building and checking objects      (``dicom_sr.errors``)
    └── ConfigError, StoreError, SpoolError, PeerError, JobError …           (``node.errors``)

Every concrete class has a stable ``code``, a one-line ``summary`` and a ``remedy`` for the person who reads it.
The operator manual's table is generated from this register.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar


class NodeError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    message : str
        What happened, for the operator. Never a patient name or id.
    **detail
        JSON-serialisable facts (positions in mm, counts, file digests, UIDs) kept with the job and the ledger.
    """

    code: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    remedy: ClassVar[str] = ""

    def __init__(self, message: str = "", **detail: Any) -> None:
        super().__init__(message or self.summary)
        self.message = message or self.summary
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.code else self.message


class Transient:
    """Mixed into errors after which the same work may succeed later. Nothing else is ever retried."""


class Refused(NodeError):
    """The images cannot or must not be analysed. Ends the job with a status object, never with a retry."""


class NotAssessed(Refused):
    """The images are readable but not good enough to say "nothing found"."""


class InsufficientCoverage(NotAssessed):
    code = "SUI-001"
    summary = "The images do not cover enough of the organ."
    remedy = "Check the planned slices at the modality; the study is to be read without AI."


class LowSignalToNoise(NotAssessed):
    code = "SUI-002"
    summary = "The signal-to-noise ratio is too low for the model's stated detection limit."
    remedy = "Check coil and protocol; the study is to be read without AI."


class OrganCutOff(NotAssessed):
    code = "SUI-003"
    summary = "The organ is cut off at the edge of the image."
    remedy = "Check field of view and slice planning; the study is to be read without AI."


class BrainNotFound(NotAssessed):
    code = "SUI-004"
    summary = "No plausible brain was found in the images."
    remedy = "Check that the rule selects head studies; the study is to be read without AI."


class ReferenceDoubtful(NotAssessed):
    code = "SUI-005"
    summary = "The patient's own tissue cannot serve as the normal reference."
    remedy = "A very large or diffuse infarct is possible: the study is to be read without AI, without delay."


class OutsideLimits(NotAssessed):
    code = "SUI-006"
    summary = "The study lies outside of what the model was made for."
    remedy = (
        "The message names the limit of the card; the study is to be read without AI, or the rule to be made narrower."
    )


class ModelError(NodeError):
    """A card, a graph or an inference failed."""


class CardInvalid(ModelError):
    code = "MOD-001"
    summary = "The model card is not valid."
    remedy = "Correct the key that the message names in model.toml; `ainode models info ID` shows the card as read."


class DigestMismatch(ModelError):
    code = "MOD-002"
    summary = "A model file differs from the digest pinned in its card."
    remedy = "Restore the released file, or have the new version verified and approved; nothing runs until then."


class ModelNotFound(ModelError):
    code = "MOD-003"
    summary = "No installed model has this name."
    remedy = "`ainode models list` shows what is installed; correct the rule or install the model."


class GraphMismatch(ModelError):
    code = "MOD-004"
    summary = "The ONNX graph does not match its card."
    remedy = "Compare inputs, outputs and opset named in the message with the card; export the model again."


class InferenceFailed(ModelError):
    code = "MOD-005"
    summary = "The model failed while it ran."
    remedy = "See the message; `ainode why` names the job. Report to the model's supplier if it recurs."


class OutputNotFinite(ModelError):
    code = "MOD-006"
    summary = "The model's output holds NaN or infinity."
    remedy = "The result was discarded. Check the input series; report to the model's supplier."


class TextContradictsResult(ModelError):
    code = "MOD-007"
    summary = "Generated text contradicts the measured result."
    remedy = "The deterministic text was written instead; no action is needed unless it recurs often."


class OutOfMemory(Transient, ModelError):
    code = "MOD-008"
    summary = "The model ran out of memory."
    remedy = "Lower the number of dispatchers, or give the host more memory; the job is tried again."

    @property
    def device(self) -> str | None:
        """Execution provider of the device whose memory was not enough; None where it was the machine's own."""
        found = self.detail.get("provider")
        return None if found is None else str(found)


class ParameterInvalid(ModelError):
    code = "MOD-009"
    summary = "A parameter of the rule does not fit the model."
    remedy = "Correct the rule's parameters; `ainode models info ID` lists what is adjustable."


class StoredResultDamaged(ModelError):
    code = "MOD-010"
    summary = "A stored result cannot be read back."
    remedy = "Nothing was made from it; run the study again (`ainode retry JOB`) to get a new result."


class PromptMissing(Refused):
    code = "MOD-011"
    summary = "The model needs a prompt, and there is none."
    remedy = "Send a region (SR, SEG or GSPS) that says where to look, or name a model that finds it in the card."


class CheckpointMismatch(ModelError):
    code = "MOD-012"
    summary = "The checkpoint does not have the layout of the system it is said to be of."
    remedy = "Compare file and system; the message names keys that are missing or too many. Nothing was converted."


class CheckpointUnsafe(ModelError):
    code = "MOD-013"
    summary = "The checkpoint holds more than weights."
    remedy = "Have its publisher provide safetensors or a plain state dict; files that run code are never loaded."


class ExportFailed(ModelError):
    code = "MOD-014"
    summary = "The model could not be written as an ONNX graph that equals it."
    remedy = "See both exporters' reasons in the message; report them with the versions of torch and onnx."


class QuantisationRefused(ModelError):
    code = "MOD-031"
    summary = "A model's weights are not made smaller: it would say other things."
    remedy = "Import it with float weights, or allow more changed words with --most-changed if that is acceptable."


class ModelImportFailed(ModelError):
    code = "MOD-015"
    summary = "A checkpoint could not be converted."
    remedy = "The message holds the converter's own code and reason. Nothing was installed."


class SelfTestFailed(ModelError):
    code = "MOD-016"
    summary = "A model gives another answer than the known one on this machine."
    remedy = (
        "Nothing runs on it until it answers right: check driver, card and ONNX Runtime; `ainode models verify ID`."
    )


class ModelNotApproved(ModelError):
    code = "MOD-017"
    summary = "Nobody has approved these files of the model for this node."
    remedy = "A named person looks at card and licence and calls `ainode models approve ID --by NAME --accept-licence`."


class VersionNotChosen(ModelError):
    code = "MOD-034"
    summary = "Several versions of a model are installed, and it is not said which one serves."
    remedy = "Try one by `ID@VERSION`, then call `ainode models approve ID@VERSION --by NAME --accept-licence`."


class NoFinder(ModelError):
    code = "MOD-035"
    summary = "Of the models that may do the first part of a chain none can serve."
    remedy = "The message says of each why not; install or approve one of them, or name another in `finders` of the chain's card."


class OutsideData(ModelError):
    code = "MOD-018"
    summary = "An ONNX graph takes data from a file that its card does not pin."
    remedy = "Pin the file in `files` of the card if it belongs to the model; it must lie in the model's folder and be no link."


class TooFewImages(ModelError):
    code = "MOD-030"
    summary = "There are too few labelled images to train a head on and to measure it."
    remedy = "Label more patients with and without the finding the message names; images of one patient count once."


class PackageInvalid(ModelError):
    code = "MOD-032"
    summary = "A file or folder is no package of a model, or cannot be made one."
    remedy = (
        "See the message; have the package made again with `ainode models export`. Nothing was installed or written."
    )


class ProviderMissing(ModelError):
    code = "MOD-033"
    summary = "The machine has none of the devices that the card lets the model run on."
    remedy = "Run it on a machine that has one (`ainode models info ID` shows which), or widen runtime.providers of the card."


def register(root: type[NodeError] = NodeError) -> Iterator[type[NodeError]]:
    """Yield every class of the tree that carries a code, in code order. Import the branches first."""
    found: dict[type[NodeError], None] = {}
    stack = [root]
    while stack:
        cls = stack.pop()
        found[cls] = None
        stack.extend(cls.__subclasses__())
    yield from sorted((c for c in found if "code" in vars(c) and c.code), key=lambda c: c.code)
