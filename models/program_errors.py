"""Errors of models of family ``external``: programs that are run with typed files in and out.

None is transient: what a program did wrong it would do wrong again, and it has cost its deadline once.
"""

from __future__ import annotations

from models.errors import ModelError


class ProgramError(ModelError):
    """A program of a model was not run, or what it gave is of no use."""


class NotIsolated(ProgramError):
    code = "EXT-001"
    summary = "A model's program was not started, because it could not be shut in."
    remedy = (
        "Nothing was run. Allow namespaces for the dispatcher (docs/model-engineer.md, “A program as a model”), or "
        "name the model in external.unisolated if this site accepts that it sees this machine."
    )


class ProgramFailed(ProgramError):
    code = "EXT-002"
    summary = "A model's program ended with an error, or could not be started."
    remedy = "The message has its exit code and, where images were de-identified, its last words. Report to the model's supplier."


class ProgramLate(ProgramError):
    code = "EXT-003"
    summary = "A model's program did not end in time; it and all its children were killed."
    remedy = "Raise deadline_seconds of card and rule if the study is large; else report to the model's supplier."


class OutputUnusable(ProgramError):
    code = "EXT-004"
    summary = "What a model's program wrote cannot be read, placed on the images, or named in the card's terms."
    remedy = "Nothing of it was used. The message says which file and why; compare it with the card's labels and measurements."


class OutputTooLarge(ProgramError):
    code = "EXT-005"
    summary = "A model's program wrote more than it may."
    remedy = "Nothing of it was used. Raise maximum_output_mb in the card if that much is meant; else report to its supplier."


class RuntimeMissing(ProgramError):
    code = "EXT-006"
    summary = "A container cannot be run here: no runtime, or not this image."
    remedy = "Install podman or docker for the node's user and load the image the card pins; images are never fetched."


class InputWithheld(ProgramError):
    code = "EXT-007"
    summary = "An image cannot be de-identified, so it was not handed to the program."
    remedy = (
        "Nothing was run. If this program may see the patient's name, set deidentified_input = false in its card and have it "
        "approved again."
    )


def by_code(code: str, message: str) -> ProgramError:
    """The error that has a code, as it came from another process; an unknown one means the program failed."""
    for kind in ProgramError.__subclasses__():
        if kind.code == code:
            return kind(message)
    return ProgramFailed(message)
