"""QIDO-RS (PS3.18 10.6): what a service says it has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import httpx

from node.dicomweb import json_model
from node.dicomweb.json_model import Attributes
from node.dicomweb.web_client import WebClient, refusal
from node.errors import WebAnswerUnusable

SOP_INSTANCE_UID = "00080018"
_ACCEPT = {"Accept": "application/dicom+json"}
# Servers cut long answers; a page is asked for at a time (PS3.18 8.3.4.4).
_PAGE = 500
_MOST_PAGES = 200


def studies(client: WebClient, **match: str | Sequence[str]) -> list[Attributes]:
    """Studies that match, as DICOM JSON.

    Parameters
    ----------
    **match
        Keyword → value with the wildcards of PS3.4 C.2.2.2, as ``PatientID="P1"``; several values repeat the parameter.

    Raises
    ------
    PeerUnreachable, NoResponse, PeerBusy, PeerRejectedObject, WebNotAuthorised
        The query failed.
    WebAnswerUnusable
        The answer is no DICOM JSON.
    """
    return _search(client, "/studies", match)


def series(client: WebClient, study_uid: str, **match: str | Sequence[str]) -> list[Attributes]:
    """Series of a study that match; arguments and errors as :func:`studies`."""
    return _search(client, f"/studies/{study_uid}/series", match)


def instances(
    client: WebClient, study_uid: str, series_uid: str | None = None, **match: str | Sequence[str]
) -> list[Attributes]:
    """Instances of a study, or of one of its series, that match; arguments and errors as :func:`studies`."""
    within = f"/series/{series_uid}" if series_uid else ""
    return _search(client, f"/studies/{study_uid}{within}/instances", match)


def find_instances(
    client: WebClient, *, study_uid: str, series_uid: str, sop_instance_uids: Sequence[str]
) -> frozenset[str]:
    """SOP Instance UIDs, of those asked for, that the service lists in this series; errors as :func:`studies`."""
    match = {"SOPInstanceUID": sop_instance_uids[0]} if len(sop_instance_uids) == 1 else {}
    listed = instances(client, study_uid, series_uid, **match)
    found = {json_model.text(each, SOP_INSTANCE_UID) for each in listed}
    return frozenset(found.intersection(sop_instance_uids))


def _search(client: WebClient, path: str, match: Mapping[str, str | Sequence[str]]) -> list[Attributes]:
    found: list[Attributes] = []
    seen: set[str] = set()
    for page in range(_MOST_PAGES):
        parameters = {**match, "limit": str(_PAGE), "offset": str(page * _PAGE)}
        response = client.request("GET", path, params=parameters, headers=_ACCEPT)
        # A service without such a study may say so either way (PS3.18 10.6.3.1).
        if response.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
            return found
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise refusal(client.peer, response, "the query failed")
        matches = _matches(client, response)
        # A service that ignores the offset gives the first page again.
        fresh = {mark: each for each in matches if (mark := json.dumps(each, sort_keys=True)) not in seen}
        seen.update(fresh)
        found += fresh.values()
        if len(matches) < _PAGE or not fresh:
            return found
    raise WebAnswerUnusable(f"{client.peer}: the query gives more than {_PAGE * _MOST_PAGES} matches")


def _matches(client: WebClient, response: httpx.Response) -> list[Attributes]:
    try:
        return json_model.as_datasets(json.loads(response.content or b"[]"))
    except ValueError as error:
        raise WebAnswerUnusable(f"{client.peer}: the answer to a query is not DICOM JSON") from error
