"""Workitems by UPS-RS (PS3.18 11) as a user agent."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import httpx
from pydicom.dataset import Dataset

from node.dicom.workitem_data import claim_information, search_identifier
from node.dicomweb.json_model import as_datasets
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import PeerBusy, WebAnswerUnusable
from node.workitem import StepState
from node.workitem_manager import Reply

_JSON = "application/dicom+json"


class WorkitemWeb:
    """A manager reached by HTTP; see :class:`node.workitem_manager.WorkitemManager`."""

    def __init__(self, peer: WebPeer) -> None:
        self._peer = peer
        self._client = WebClient(peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def search(self, limit: int) -> list[Dataset]:
        wanted = search_identifier()
        matching = {each.keyword: str(each.value) for each in wanted if each.VR != "SQ" and each.value}
        fields = [each.keyword for each in wanted]
        parameters = {**matching, "includefield": fields, "limit": str(limit)}
        response = self._client.request("GET", "/workitems", params=parameters, headers={"Accept": _JSON})
        if response.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
            return []
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise refusal(self._peer, response, "the search failed")
        return [self._dataset(each) for each in _content(response)][:limit]

    def retrieve(self, uid: str) -> Dataset | None:
        response = self._client.request("GET", f"/workitems/{uid}", headers={"Accept": _JSON})
        if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            return None
        if response.status_code != httpx.codes.OK:
            raise refusal(self._peer, response, "a workitem cannot be retrieved")
        found = _content(response)
        return self._dataset(found[0]) if found else None

    def change_state(self, uid: str, transaction_uid: str, state: StepState) -> Reply:
        response = self._send("PUT", f"/workitems/{uid}/state", claim_information(transaction_uid, state))
        if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT):
            return self._instead(uid, state)
        return self._reply(response)

    def update(self, uid: str, transaction_uid: str, content: Dataset) -> Reply:
        content.TransactionUID = transaction_uid
        response = self._send("POST", f"/workitems/{uid}?transaction-uid={transaction_uid}", content)
        if response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT):
            return self._instead(uid, StepState.IN_PROGRESS)
        return self._reply(response)

    def _instead(self, uid: str, wanted: StepState) -> Reply:
        """What a refusal means, from the state that the workitem is in: HTTP's codes do not tell (PS3.18 11.7.3.1)."""
        found = self.retrieve(uid)
        state = str(found.get("ProcedureStepState", "")) if found is not None else ""
        if found is None:
            return Reply.UNKNOWN
        if state in (StepState.COMPLETED, StepState.CANCELED):
            return Reply.DONE if state == wanted else Reply.ENDED
        if state == StepState.IN_PROGRESS:
            return Reply.TAKEN
        return Reply.NOT_CLAIMED if wanted is not StepState.IN_PROGRESS else Reply.REFUSED

    def _send(self, method: str, path: str, content: Dataset) -> httpx.Response:
        headers = {"Content-Type": _JSON, "Accept": _JSON}
        return self._client.request(method, path, content=json.dumps([content.to_json_dict()]), headers=headers)

    def _reply(self, response: httpx.Response) -> Reply:
        code = response.status_code
        if response.is_success:
            return Reply.DONE
        if code == httpx.codes.NOT_FOUND:
            return Reply.UNKNOWN
        if code == httpx.codes.GONE:
            return Reply.ENDED
        error = refusal(self._peer, response, "a workitem cannot be changed")
        if isinstance(error, PeerBusy) or code in (401, 403, 407):
            raise error
        return Reply.REFUSED

    def _dataset(self, content: Any) -> Dataset:
        try:
            return Dataset.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WebAnswerUnusable(f"{self._peer}: the answer is not DICOM JSON (PS3.18 annex F)") from error


def _content(response: httpx.Response) -> list[Any]:
    try:
        return list(as_datasets(response.json()))
    except ValueError as error:
        raise WebAnswerUnusable("the answer is no JSON") from error
