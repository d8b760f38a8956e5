"""FHIR R4: a DiagnosticReport with its Observations, as one transaction that may be repeated without harm.

Each resource is put under an identifier of its own (conditional update), so that a message sent again, an update and a
retraction change what is there instead of adding to it. The models of fhir.resources check them; of what is used here,
R4 and R4B are the same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation

from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import NoResponse, NotificationRefused, NotificationUnusable, PeerRejectedObject
from node.notify import result_codes, wording
from node.notify.facts import FindingFacts, ResultFacts, Term
from node.notify.notification_rows import Notification
from node.notify.states import Event
from node.settings import FhirSection

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
}
_UCUM = "http://unitsofmeasure.org"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
NOTIFICATION_SYSTEM = "urn:ainode:notification"
_JSON = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}


class FhirTransport:
    """Gives notifications to one FHIR server.

    Parameters
    ----------
    section : FhirSection
    device_uid : str
        The node's; the namespace of its identifiers.
    """

    def __init__(self, section: FhirSection, device_uid: str) -> None:
        self._section = section
        self._namespace = f"urn:oid:{device_uid}"
        self._peer = WebPeer(
            url=section.url.rstrip("/"),
            connect_timeout_seconds=section.connect_timeout_seconds,
            response_timeout_seconds=section.response_timeout_seconds,
            tls=section.tls,
            username=section.username,
            passcode_file=section.passcode_file,
            oauth=section.oauth,
        )

    def send(self, notification: Notification) -> str:
        """Post the transaction, and return what the server made of it.

        Raises
        ------
        NotificationUnusable
            It does not fit the resources.
        PeerUnreachable, PeerBusy, NoResponse
            As :meth:`WebClient.request`; HTTP 429 and 5xx are passing. NoResponse also where the answer is no answer to
            a transaction.
        NotificationRefused
            Refused for good, with the codes of the OperationOutcome.
        """
        body = json.dumps(self.compose(notification), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        with WebClient(self._peer) as client:
            response = client.request("POST", "", content=body, headers=_JSON)
        answer = _answer(response)
        if not response.is_success:
            error = refusal(self._peer, response, f"the result was not taken {_issues(answer)}".rstrip())
            if isinstance(error, PeerRejectedObject):
                raise NotificationRefused(error.message, **error.detail)
            raise error
        return self._checked(answer, response.status_code)

    def compose(self, notification: Notification) -> dict[str, Any]:
        """The transaction as JSON, checked by the models; the same notification gives the same content."""
        content = notification.content
        facts = ResultFacts.model_validate(content["result"])
        status = "entered-in-error" if Event(content["event"]) is Event.RETRACTION else "preliminary"
        common = {"status": status, **self._subject(content["identity"]), "meta": _tag(notification)}
        observations = list(self._observations(content, facts, common))
        report = self._report(content, facts, common, observations)
        entries = [self._entry(each) for each in (report, *observations)]
        try:
            for each in observations:
                Observation.model_validate(each)
            DiagnosticReport.model_validate(report)
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            Bundle.model_validate(bundle)
        except ValueError as error:
            raise NotificationUnusable("FHIR resources cannot be made of it") from error
        return bundle

    def _checked(self, answer: Mapping[str, Any], code: int) -> str:
        if answer.get("resourceType") == "OperationOutcome" and (issues := _issues(answer)):
            raise NotificationRefused(f"{self._peer}: HTTP {code}, but {issues}")
        if answer.get("resourceType") != "Bundle":
            raise NoResponse(f"{self._peer}: HTTP {code}, but the answer is no Bundle")
        responses = [entry.get("response", {}) for entry in answer.get("entry") or () if isinstance(entry, dict)]
        statuses = [str(each.get("status", "")) for each in responses]
        if not statuses:
            raise NoResponse(f"{self._peer}: HTTP {code}, but the answer says nothing about the resources")
        if bad := [each for each in responses if not str(each.get("status", "")).startswith("2")]:
            outcome = _issues(bad[0].get("outcome") or {})
            raise NotificationRefused(
                f"{self._peer}: a resource was not taken: {bad[0].get('status')} {outcome}".rstrip()
            )
        return f"HTTP {code}, {len(statuses)} resources: {', '.join(dict.fromkeys(each[:3] for each in statuses))}"

    def _report(
        self,
        content: Mapping[str, Any],
        facts: ResultFacts,
        common: Mapping[str, Any],
        observations: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        identity = content["identity"]
        report: dict[str, Any] = {
            "resourceType": "DiagnosticReport",
            "identifier": [self._identifier(content, "report")],
            **common,
            "category": [{"coding": [{"system": _SECTION, "code": "RAD"}]}],
            "code": {"text": facts.title or facts.model},
            "effectiveDateTime": _moment(content["opened_at"]),
            "issued": _moment(content["at"]),
            "result": [{"reference": self._full_url(each)} for each in observations],
            "conclusion": "\n".join(wording.sentences(content)),
        }
        if identity.get("accession_number"):
            report["basedOn"] = [
                {"type": "ServiceRequest", "identifier": self._accession(identity["accession_number"])}
            ]
        if identity.get("study_uid"):
            study = {"system": "urn:dicom:uid", "value": f"urn:oid:{identity['study_uid']}"}
            report["imagingStudy"] = [{"type": "ImagingStudy", "identifier": study}]
        return report

    def _observations(
        self, content: Mapping[str, Any], facts: ResultFacts, common: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        target = facts.finding or result_codes.FINDING
        outcome = result_codes.OUTCOMES.get(facts.outcome, result_codes.NOT_DONE)
        parts = [_volume(facts.total_ml)] if facts.total_ml is not None else []
        for region in facts.regions:
            if region.volume_ml is not None:
                parts.append(_volume(region.volume_ml, region.label))
        parts += [_side(side) for side in facts.sides if side in result_codes.SIDES]
        yield self._observation(content, facts, common, "finding", target, outcome, parts)
        for finding in facts.findings:
            yield self._finding(content, facts, common, finding)

    def _finding(
        self, content: Mapping[str, Any], facts: ResultFacts, common: Mapping[str, Any], finding: FindingFacts
    ) -> dict[str, Any]:
        outcome = result_codes.PRESENT if finding.present else result_codes.ABSENT
        quantity = {"value": round(finding.probability, 4), "unit": "1", "system": _UCUM, "code": "1"}
        parts = [{"code": _concept(result_codes.PROBABILITY), "valueQuantity": quantity}]
        name = f"finding-{finding.concept.scheme}-{finding.concept.value}"
        return self._observation(content, facts, common, name, finding.concept, outcome, parts)

    def _observation(
        self,
        content: Mapping[str, Any],
        facts: ResultFacts,
        common: Mapping[str, Any],
        name: str,
        what: Term,
        outcome: Term,
        parts: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        observation: dict[str, Any] = {
            "resourceType": "Observation",
            "identifier": [self._identifier(content, name)],
            **common,
            "category": [{"coding": [{"system": _CATEGORY, "code": "imaging"}]}],
            "code": _concept(what),
            "effectiveDateTime": _moment(content["opened_at"]),
            "issued": _moment(content["at"]),
            "valueCodeableConcept": _concept(outcome),
            "method": {"text": f"{facts.model} {facts.model_version}".rstrip()},
        }
        if outcome is result_codes.PRESENT:
            code = "AA" if content["priority"] == "stat" else "A"
            observation["interpretation"] = [{"coding": [{"system": _INTERPRETATION, "code": code}]}]
        if facts.site is not None:
            observation["bodySite"] = _concept(facts.site)
        if parts:
            observation["component"] = list(parts)
        return observation

    def _subject(self, identity: Mapping[str, str]) -> dict[str, Any]:
        """A logical reference: the server knows its patients, this node does not invent one."""
        if not identity.get("patient_id"):
            return {}
        identifier = {"value": identity["patient_id"]}
        if self._section.patient_system:
            identifier["system"] = self._section.patient_system
        return {"subject": {"type": "Patient", "identifier": identifier}}

    def _accession(self, number: str) -> dict[str, Any]:
        identifier: dict[str, Any] = {
            "type": {"coding": [{"system": _IDENTIFIER_TYPE, "code": "ACSN"}]},
            "value": number,
        }
        return (
            {**identifier, "system": self._section.accession_system} if self._section.accession_system else identifier
        )

    def _identifier(self, content: Mapping[str, Any], name: str) -> dict[str, str]:
        return {"system": self._namespace, "value": f"alert-{content['alert']}-{name}"}

    def _full_url(self, resource: Mapping[str, Any]) -> str:
        identifier = resource["identifier"][0]
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, self._namespace + identifier['value'])}"

    def _entry(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        identifier = resource["identifier"][0]
        query = quote(f"{identifier['system']}|{identifier['value']}", safe="")
        return {
            "fullUrl": self._full_url(resource),
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}?identifier={query}"},
        }


def _tag(notification: Notification) -> dict[str, Any]:
    return {"tag": [{"system": NOTIFICATION_SYSTEM, "code": notification.control_id}]}


def _concept(term: Term) -> dict[str, Any]:
    system = _SYSTEMS.get(term.scheme, f"urn:ainode:scheme:{term.scheme}")
    return {"coding": [{"system": system, "code": term.value, "display": term.meaning}], "text": term.meaning}


def _volume(volume_ml: float, label: str = "") -> dict[str, Any]:
    code = _concept(result_codes.VOLUME)
    quantity = {"value": round(volume_ml, 3), "unit": "mL", "system": _UCUM, "code": "mL"}
    return {"code": {**code, "text": f"Volume, {label}"} if label else code, "valueQuantity": quantity}


def _side(side: str) -> dict[str, Any]:
    return {"code": _concept(result_codes.LATERALITY), "valueCodeableConcept": _concept(result_codes.SIDES[side])}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")


def _answer(response: httpx.Response) -> Mapping[str, Any]:
    try:
        answer = json.loads(response.content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _issues(outcome: Mapping[str, Any]) -> str:
    """Errors of an OperationOutcome by their codes; its free text may quote what was sent."""
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return ""
    issues = [each for each in outcome.get("issue") or () if isinstance(each, dict)]
    found = [
        f"{each.get('severity')} {each.get('code')} {' '.join(map(str, each.get('expression') or ()))}".rstrip()
        for each in issues
        if each.get("severity") in ("error", "fatal")
    ]
    return "; ".join(found)
