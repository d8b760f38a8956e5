"""Errors of models that answer from outside this node, and of text that must not be shown.

::

    ModelError
    ├── RemoteError       REM-…   a remote model was not called, or its answer is of no use
    ├── TextWithheld      TXT-001 text of any model says what no model may say
    └── NoQuestion        TXT-002 (Refused) a rule that answers questions found none

A remote model is tried again by whoever calls it, within the run; what reaches the run is final, so that measurements
never wait for a service elsewhere.
"""

from __future__ import annotations

from models.errors import ModelError, Refused, register


class RemoteError(ModelError):
    """A remote model was not called, or its answer is of no use."""


class RemoteOff(RemoteError):
    code = "REM-001"
    summary = "A remote model was asked for, and remote models are off."
    remedy = "Nothing left this node. Set enabled in [remote] after reading docs/remote.md, or take the model out of the rule."


class EndpointUnbound(RemoteError):
    code = "REM-002"
    summary = "The card names an endpoint that this site has not bound."
    remedy = "Nothing left this node. Add [remote.endpoint.NAME] to node.toml, or take the model out of the rule."


class HostNotAllowed(RemoteError):
    code = "REM-003"
    summary = "The endpoint's host is not among those that may be called."
    remedy = "Nothing left this node. Add the host to remote.hosts if it is meant to be called."


class TextInPicture(RemoteError):
    code = "REM-004"
    summary = "A picture may show text, so it must not leave."
    remedy = (
        "Nothing left this node. Have the modality state Burned In Annotation NO and send without text, or name the "
        "regions to be blackened in [[remote.clean]]."
    )


class PictureNotReleasable(RemoteError):
    code = "REM-005"
    summary = "Pictures of this kind never leave, or not as they are."
    remedy = "Nothing left this node. docs/remote.md lists what may leave; remote.head says what of heads may."


class IdentityInRequest(RemoteError):
    code = "REM-006"
    summary = "A value that identifies the patient, a person or the place was found in the finished request."
    remedy = "Nothing left this node. Report this with the job's number: the message names the kind of value, never the value."


class BudgetSpent(RemoteError):
    code = "REM-007"
    summary = "The day's calls or tokens of an endpoint are used up."
    remedy = "Nothing left this node. Wait for the next day, or raise daily_calls or daily_tokens of the endpoint."


class RemoteUnavailable(RemoteError):
    code = "REM-008"
    summary = "The remote model gave no answer, however often it was tried."
    remedy = (
        "The result was written without it. Check the endpoint with its administrator; `ainode retry JOB` asks again."
    )


class RemoteRefusal(RemoteError):
    code = "REM-009"
    summary = "The remote service refused the request for good."
    remedy = (
        "Check model name, key file and url of the endpoint with its administrator; the message has the HTTP status."
    )


class AnswerUnusable(RemoteError):
    code = "REM-010"
    summary = "The answer of the remote service is not what the chat completions interface says."
    remedy = "Check that the url is that of the service itself (it ends in /v1 for most); its answer was thrown away."


class WrongModel(RemoteError):
    code = "REM-011"
    summary = "Another model answered than the one that was asked."
    remedy = "Its answer was thrown away. Correct `answered_by` of the endpoint if the name is right, or the server's routing."


class KeyUnusable(RemoteError):
    code = "REM-012"
    summary = "The file with the key of an endpoint cannot be used."
    remedy = "Nothing left this node. Correct key_file of the endpoint: one line, readable by the node only."


class TextWithheld(ModelError):
    code = "TXT-001"
    summary = "Text of a model holds what no draft may hold: identifiers, or a claim that somebody has checked it."
    remedy = "The text was thrown away and no destination got it; the message says of what kind it was."


class NoQuestion(Refused):
    code = "TXT-002"
    summary = "The rule answers questions, and neither order nor study holds one."
    remedy = "Write the question into the reason for the procedure as docs/questions.md says, or send it as a text SR."


def by_code(code: str, message: str) -> RemoteError:
    """The error of this module that a code from another process stands for; RemoteUnavailable for any other."""
    for known in register(RemoteError):
        if known.code == code and issubclass(known, RemoteError):
            return known(message)
    return RemoteUnavailable(message)
