"""The resources of ``/dicom-web``: routes only; what they answer with is made by the modules beside this one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.params import Depends

from node.archive.engine import Store
from node.settings import Settings
from node.web.dicomweb import frames, rendering, retrieve
from node.web.dicomweb import store as storing
from node.web.dicomweb.attributes import HeaderReader, encoded
from node.web.dicomweb.cors import DicomWebCors
from node.web.dicomweb.failures import (
    FORBIDDEN,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    refuse,
    required_uid,
)
from node.web.dicomweb.holdings import Holding, Holdings
from node.web.dicomweb.media_types import DICOM, DICOM_JSON, JSON, MediaType, accepted, best
from node.web.dicomweb.query import Level, parse
from node.web.dicomweb.rendering import Wish
from node.web.dicomweb.retrievals import Retrievals
from node.web.dicomweb.retrieve import Metadata
from node.web.dicomweb.search import Search

ROOT = "/dicom-web"
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_NAMES = {"study": "Study Instance UID", "series": "Series Instance UID", "instance": "SOP Instance UID"}


def dicomweb_router(
    settings: Settings, store: Store, *, read: Sequence[Depends] = (), write: Sequence[Depends] = ()
) -> APIRouter:
    """QIDO-RS and WADO-RS, and STOW-RS where it is switched on; nothing where DICOMweb is off.

    Parameters
    ----------
    read, write : sequence of Depends
        What guards reading, and storing.
    """
    router = APIRouter(prefix=ROOT)
    if settings.dicomweb.enabled:
        service = _Service(settings, store)
        router.add_event_handler("shutdown", service.retrievals.close)
        router.include_router(_searches(service), dependencies=list(read))
        router.include_router(_retrievals(service), dependencies=list(read))
        router.include_router(_pictures(service), dependencies=list(read))
    if settings.dicomweb.enabled and settings.dicomweb.store:
        router.include_router(_stores(settings, store), dependencies=list(write))
    return router


def add_cors(app: FastAPI, settings: Settings) -> None:
    """Let pages of the origins a site names read from ``/dicom-web``. Add it last: it goes before every guard."""
    if settings.dicomweb.origins:
        app.add_middleware(DicomWebCors, origins=settings.dicomweb.origins)


class _Service:
    """What every route of one application shares."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.holdings = Holdings(settings)
        self.headers = HeaderReader()
        self.metadata = Metadata.new()
        self.retrievals = Retrievals(store)

    def held(self, request: Request, *, objects: bool = True, middle: bool = False) -> list[Holding]:
        """The instances a path names, for whoever retrieves them: that is on record before they are given out.

        Parameters
        ----------
        objects : bool
            They are given out themselves, whole or in part; not metadata or pictures of them.
        middle : bool
            Only the one in the middle of them is wanted.
        """
        uids = {
            name: required_uid(value, _NAMES[name]) for name, value in request.path_params.items() if name in _NAMES
        }
        with self.store.read() as connection:
            found = self.holdings.find(connection, uids["study"], uids.get("series"), uids.get("instance"))
        if not found:
            refuse(NOT_FOUND, "there is nothing of this name here")
        found = [_middle(found)] if middle else found
        self.retrievals.note(request, found, objects=objects)
        return found

    def search(self, request: Request, level: Level) -> Response:
        """Answer a search."""
        if best(_wanted(request), [DICOM_JSON, JSON]) is None:
            refuse(NOT_ACCEPTABLE, f"results are given as {DICOM_JSON} only")
        uids = {name: required_uid(value, _NAMES[name]) for name, value in request.path_params.items()}
        query = parse(level, request.query_params.multi_items())
        with self.store.read() as connection:
            search = Search(
                connection, self.holdings, self.headers, _base(request), self.settings.dicomweb.maximum_results
            )
            found = search.run(level, query, uids.get("study"), uids.get("series"))
        headers: list[str] = []
        if found.more:
            headers.append(
                '299 ainode "The number of results exceeded the maximum supported by the server. '
                'Additional results can be requested."'
            )
        if request.query_params.get("fuzzymatching", "").lower() == "true":
            headers.append(
                '299 ainode "The fuzzymatching parameter is not supported. Only literal matching has been performed."'
            )
        warning = {"Warning": ", ".join(headers)} if headers else {}
        if not found.results:
            return Response(status_code=204, headers=warning)
        body = b"[" + b",".join(encoded(each) for each in found.results) + b"]"
        return Response(body, media_type=DICOM_JSON, headers=warning)


def _searches(service: _Service) -> APIRouter:
    router = APIRouter()
    for path, level in (
        ("/studies", Level.STUDIES),
        ("/series", Level.SERIES),
        ("/instances", Level.INSTANCES),
        (_STUDY + "/series", Level.SERIES),
        (_STUDY + "/instances", Level.INSTANCES),
        (_SERIES + "/instances", Level.INSTANCES),
    ):
        router.add_api_route(path, _search_at(service, level), methods=["GET"])
    return router


def _retrievals(service: _Service) -> APIRouter:
    router = APIRouter()

    def instances(request: Request) -> Response:
        return retrieve.instances(service.held(request), _wanted(request))

    def metadata(request: Request) -> Response:
        return service.metadata.answer(service.held(request, objects=False), _wanted(request), _base(request))

    for path in (_STUDY, _SERIES, _INSTANCE):
        router.add_api_route(path, instances, methods=["GET"])
        router.add_api_route(path + "/metadata", metadata, methods=["GET"])

    @router.get(_INSTANCE + "/frames/{numbers}")
    def some_frames(request: Request, numbers: str) -> Response:
        return frames.frames(service.held(request)[0].path, numbers, _wanted(request))

    @router.get(_INSTANCE + "/bulkdata/{element:path}")
    def bulk_data(request: Request, element: str) -> Response:
        return frames.bulk_data(service.held(request)[0].path, element, _wanted(request))

    return router


def _pictures(service: _Service) -> APIRouter:
    router = APIRouter()

    def rendered(request: Request) -> Response:
        (held,) = service.held(request, objects=False, middle=True)
        numbers = request.path_params.get("numbers")
        return rendering.rendered(held.path, numbers, Wish.of(request.query_params), _wanted(request))

    def thumbnail(request: Request) -> Response:
        (held,) = service.held(request, objects=False, middle=True)
        numbers = request.path_params.get("numbers")
        return rendering.thumbnail(held.path, numbers, Wish.of(request.query_params), _wanted(request))

    for path in (_STUDY, _SERIES, _INSTANCE, _INSTANCE + "/frames/{numbers}"):
        router.add_api_route(path + "/rendered", rendered, methods=["GET"])
        router.add_api_route(path + "/thumbnail", thumbnail, methods=["GET"])
    return router


def _stores(settings: Settings, store: Store) -> APIRouter:
    router = APIRouter()
    places = threading.BoundedSemaphore(settings.dicomweb.maximum_store_requests)

    async def receive(request: Request) -> Response:
        address = request.client.host if request.client else ""
        if not storing.may_store(settings, address):
            refuse(FORBIDDEN, "this address may not store; see [dicomweb] store_allow")
        study = request.path_params.get("study")
        study_uid = None if study is None else required_uid(study, _NAMES["study"])
        boundary = storing.boundary_in(request.headers.get("content-type", ""))
        if boundary is None:
            refuse(UNSUPPORTED_MEDIA_TYPE, f'objects are taken as multipart/related; type="{DICOM}" only')
        if best(_wanted(request), [DICOM_JSON, JSON]) is None:
            refuse(NOT_ACCEPTABLE, f"the outcome is told as {DICOM_JSON} only")
        if not places.acquire(blocking=False):
            refuse(UNAVAILABLE, "too many store requests at a time; come again", **{"Retry-After": "5"})
        try:
            reception = storing.Reception(settings, store, address=address, boundary=boundary, study_uid=study_uid)
            outcome = await storing.receive(reception, request.stream())
        finally:
            places.release()
        body = encoded(outcome.response(_base(request), study_uid))
        return Response(body, outcome.status, media_type=DICOM_JSON)

    for path in ("/studies", _STUDY):
        router.add_api_route(path, receive, methods=["POST"])
    return router


def _search_at(service: _Service, level: Level) -> Callable[[Request], Response]:
    """The endpoint of a level."""

    def search(request: Request) -> Response:
        return service.search(request, level)

    return search


def _middle(held: Sequence[Holding]) -> Holding:
    """Of several instances the received one in the middle; of none received the first."""
    received = [each for each in held if each.produced is None] or list(held)
    return received[len(received) // 2]


def _wanted(request: Request) -> list[MediaType]:
    return accepted(request.headers.get("accept"), request.query_params.get("accept"))


def _base(request: Request) -> str:
    """URL of the service as the client named it."""
    url = request.base_url
    host, port = request.scope.get("server") or ("", None)
    if url.port is None and port and url.hostname == host and port not in (80, 443):
        # dicomweb-client leaves the port out of Host. Through a proxy the name is another one than ours.
        url = url.replace(port=port)
    return f"{str(url).rstrip('/')}{ROOT}"
