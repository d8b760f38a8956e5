"""The sections of PS3.2 annex A, filled from the configuration and the code's own context lists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import metadata

from pydicom.uid import UID

from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.conformance.blocks import Block, Grid, Heading, Words
from node.conformance.objects import Written, objects_of, sources
from node.dicom import claims
from node.dicom.claims import Claim
from node.dicom.tls import CIPHERS
from node.settings import CANARY, Settings


def statement(settings: Settings) -> list[Block]:
    """The conformance statement of a configuration."""
    return [
        *_cover(settings),
        *_overview(settings),
        *_model(settings),
        *_acceptance(settings),
        *_initiation(settings),
        *_configuration(settings),
        *_profiles(settings),
        *_character_sets(settings),
        *_security(settings),
        *_annexes(settings),
    ]


def _cover(settings: Settings) -> Iterator[Block]:
    version = metadata.version("ainode")
    yield Heading(1, f"DICOM Conformance Statement: ainode {version}, {settings.node.name}")
    yield Words(
        f"Made by `ainode conformance-statement` on {time.strftime('%Y-%m-%d')} from the configuration of this "
        "installation, in the form of PS3.2. What it says about contexts is read from the lists that the running node "
        "negotiates with."
    )


def _overview(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "1 Conformance statement overview")
    yield Words(
        "The node receives images by C-STORE, analyses them, and returns segmentations, structured reports and other "
        "objects to the archive. To its peers it is one more modality."
    )
    rows = [("Storage", "every storage SOP class, private ones included (A.1)", "No", "Yes")]
    written = objects_of(settings)
    if written:
        rows.append(("Storage", "the objects of annex A", "Yes", "No"))
    for claim in [*claims.accepted_services(settings), *claims.proposed_services(settings)]:
        rows.append((claim.service, claim.name, _yes(claim.as_scu), _yes(claim.as_scp)))
    merged: dict[tuple[str, str], tuple[str, str]] = {}
    for service, name, scu, scp in rows:
        before = merged.get((service, name), ("No", "No"))
        merged[service, name] = (_either(before[0], scu), _either(before[1], scp))
    yield Grid.of(["Service", "SOP class", "SCU", "SCP"], [[*key, *roles] for key, roles in merged.items()])


def _yes(holds: bool) -> str:
    return "Yes" if holds else "No"


def _either(first: str, second: str) -> str:
    return "Yes" if "Yes" in (first, second) else "No"


def _model(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "2 Networking: implementation model")
    yield Heading(3, "2.1 Application data flow")
    yield Words(
        "One application entity. The receiver files what modalities and archives send; the scheduler decides from "
        "performed procedure steps, notifications, counts at the archive and quiet time when a study is complete; "
        "a model host analyses it; the sender stores the results at each destination and asks for storage commitment."
    )
    yield Heading(3, "2.2 Functional definition")
    yield Words(
        "Storage SCP: success (0000H) is given when file and index entry are on the disk"
        + (
            "."
            if settings.receive.mode == "instance"
            else " of the operating system (mode association: it survives a process, not a power cut)."
        )
        + " An instance that comes again with the same bytes is acknowledged once more; other bytes under the same UID "
        "are kept beside it. Storage SCU: results are sent as frozen when the run ended; a retry sends the same bytes."
    )
    yield Heading(3, "2.3 Sequencing")
    yield Words(
        "Association for images → release → decision → analysis → association for results → storage commitment "
        "request on the same association; the answer is taken there, or on an association the peer opens later."
    )


def _acceptance(settings: Settings) -> Iterator[Block]:
    receive = settings.receive
    yield Heading(2, "3 AE specification: association acceptance")
    yield Grid.of(
        ["Property", "Value"],
        [
            ["Application context", "1.2.840.10008.3.1.1.1"],
            ["AE titles answered to", ", ".join(sorted(settings.called_ae_titles))],
            ["Associations at a time", str(receive.maximum_associations)],
            ["Asynchronous operations window", "not negotiated"],
            ["Largest PDU received", f"{receive.maximum_pdu_bytes} bytes"],
            ["Implementation Class UID", IMPLEMENTATION_CLASS_UID],
            ["Implementation Version Name", IMPLEMENTATION_VERSION_NAME],
            ["Association closed after silence of", f"{receive.idle_timeout_seconds:g} s"],
            ["Association closed at the latest after", f"{receive.maximum_association_seconds:g} s"],
            ["User identity negotiation", "required" if receive.require_user_identity else "accepted"],
        ],
    )
    yield Words(
        "Called and calling AE title, address and, where configured, certificate and user identity are checked; others are "
        "rejected with the reason of PS3.8 9.3.4: calling (3) or called (7) AE title not recognised, local limit "
        "exceeded, temporary congestion."
    )
    yield Heading(3, "3.1 Peers that may associate")
    yield Grid.of(
        ["Calling AE title", "Address", "Called AE titles", "Certificate"],
        [
            [each.ae_title, each.address, ", ".join(each.called_ae_titles) or "any", each.certificate or "any"]
            for each in receive.allow
            if each.ae_title != settings.canary.ae_title or not settings.canary.enabled
        ],
    )
    yield Heading(3, "3.2 Accepted presentation contexts")
    yield _contexts(claims.accepted_services(settings))
    yield Words(
        "Extended negotiation: none. Role selection: for the Storage Commitment Push Model a peer may propose itself as "
        "SCP, to report the outcome of a request of this node. For storage see A.1: of several transfer syntaxes in one "
        "context Explicit VR Little Endian is preferred to Implicit VR and to Big Endian, else the peer's first."
    )
    yield Heading(3, "3.3 Status codes of C-STORE as SCP")
    yield Grid.of(
        ["Status", "Meaning"],
        [
            ["0000", "stored"],
            ["A700", "out of resources: disk reserve reached, spool or database not writable; send again later"],
            ["A900", "SOP Class or Instance UID in the data set differs from the request"],
            ["C000", f"not readable, or larger than {receive.maximum_object_bytes} bytes"],
        ],
    )
    if settings.evidence.performed_steps or settings.evidence.notifications:
        yield Heading(3, "3.4 Status codes of N-CREATE, N-SET and N-ACTION as SCP")
        yield Grid.of(
            ["Status", "Meaning"],
            [
                ["0000", "recorded"],
                ["0106", "a value is missing, unreadable or not allowed"],
                ["0110", "the step has ended and may no longer be updated (Error ID A710), or the database is away"],
                ["0111, 0112", "the step exists already; it does not exist"],
                ["0124", "commitment: not answered by this node, ask the archive"],
            ],
        )


def _contexts(found: list[Claim]) -> Block:
    rows = [
        [claim.name, claim.sop_class_uid, ", ".join(UID(each).name for each in claim.transfer_syntaxes), claim.roles]
        for claim in found
    ]
    return Grid.of(["SOP class", "UID", "Transfer syntaxes", "Role"], rows or [["none", "", "", ""]])


def _initiation(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "4 AE specification: association initiation")
    yield Words(
        "At most 128 presentation contexts in one association, each with one transfer syntax for storage. Results go over "
        "as many associations at a time as a destination is configured for; after failures they are tried again with "
        "growing pauses, with the same bytes."
    )
    yield Heading(3, "4.1 Proposed presentation contexts")
    yield _contexts(claims.proposed_services(settings))
    written = objects_of(settings)
    if written:
        yield Heading(3, "4.2 Objects stored as SCU")
        syntaxes = ", ".join(UID(each).name for each in claims.sent_syntaxes())
        yield Grid.of(
            ["SOP class", "UID", "Transfer syntaxes", "Role"],
            [[UID(each.sop_class_uid).name, each.sop_class_uid, syntaxes, "SCU"] for each in _distinct(written)],
        )
        yield Words(
            "Extended negotiation: none. Status 0000, B000, B006 and B007 count as stored; A7xx and 0122 are tried again; other "
            "Axxx and Cxxx are given up until a person repeats them."
        )
    if any(each.sop_class_uid.endswith("2.2.3") for each in claims.proposed_services(settings)):
        classes, syntaxes_taken = claims.retrieved_storage()
        yield Heading(3, "4.3 Objects taken by C-GET")
        yield Words(
            f"{len(classes)} image storage SOP classes in the SCP role, in "
            + ", ".join(UID(each).name for each in syntaxes_taken)
            + "."
        )


def _distinct(written: list[Written]) -> list[Written]:
    return list({each.sop_class_uid: each for each in written}.values())


def _configuration(settings: Settings) -> Iterator[Block]:
    receive = settings.receive
    yield Heading(2, "5 Network interfaces and configuration")
    listening = [["DICOM", f"{receive.host}:{receive.port}", "none"]] if receive.plain else []
    if receive.tls.enabled:
        listening.append(["DICOM", f"{receive.host}:{receive.tls.port}", f"TLS {receive.tls.minimum_version} or newer"])
    yield Grid.of(["Listener", "Address", "Protection"], listening)
    yield Heading(3, "5.1 Remote application entities")
    rows = [
        [
            name,
            each.ae_title or "DICOMweb",
            each.url or f"{each.host}:{each.port}",
            _yes(each.tls is not None),
            each.profile,
        ]
        for name, each in settings.destination.items()
        if name != CANARY
    ]
    rows += [
        [f"worklist {name}", each.ae_title, f"{each.host}:{each.port}", "No", ""]
        for name, each in settings.worklist.items()
    ]
    rows += [
        [
            f"workitems {name}",
            each.ae_title or "UPS-RS",
            each.url or f"{each.host}:{each.port}",
            _yes(each.tls is not None),
            "",
        ]
        for name, each in settings.workitems.items()
    ]
    rows += [
        [f"web_source {name}", "DICOMweb", each.url, _yes(each.tls is not None), ""]
        for name, each in settings.web_source.items()
    ]
    yield Grid.of(["Name", "AE title", "Address", "TLS", "Profile"], rows or [["none", "", "", "", ""]])
    yield Words("Local AE title, ports, time limits and peers are set in node.toml; a restart takes them up.")


def _profiles(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "6 Communication profiles")
    yield Words("TCP/IP over IPv4 and IPv6, as the operating system provides. Media interchange: none.")
    web = [name for name, each in settings.destination.items() if each.url]
    managers = [name for name, each in settings.workitems.items() if each.url]
    if web or settings.web_source or managers:
        yield Heading(3, "6.1 DICOM web services, user agent")
        yield Grid.of(
            ["Service", "Used for"],
            [
                ["STOW-RS (PS3.18 10.5)", f"results to {', '.join(web)}" if web else "not configured"],
                ["QIDO-RS (PS3.18 10.6)", "proof of storage, finding images"],
                ["WADO-RS (PS3.18 10.4)", ", ".join(settings.web_source) or "not configured"],
                ["UPS-RS (PS3.18 11), performer", ", ".join(managers) or "not configured"],
            ],
        )


def _character_sets(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "7 Support of character sets")
    yield Words(
        "Received: every character set of PS3.3 C.12.1.1.2 is kept as received. Results: ISO_IR 192, or by profile "
        "ISO 2022 IR 6 and ISO 2022 IR 87, with ISO 2022 IR 13 where half-width katakana occur. Person names keep all "
        "component groups."
    )
    sets = {name: each.character_set for name, each in settings.profile.items() if name != CANARY}
    if sets:
        yield Grid.of(["Profile", "Character set"], [list(each) for each in sets.items()])


def _security(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "8 Security")
    tls = settings.receive.tls
    rows = [
        ["Secure transport", "BCP 195 RFC 8996, 9325 TLS profile (PS3.15 B.12)" if tls.enabled else "not enabled"],
        ["Cipher suites of TLS 1.2", ", ".join(CIPHERS)],
        ["Client certificates", "required" if tls.enabled and tls.require_client_certificate else "not required"],
        ["User identity", "user name, and user name with passcode (PS3.7 D.3.3.7)"],
        [
            "Audit trail",
            f"PS3.15 A.5 over syslog {settings.audit.transport}" if settings.audit.enabled else "local ledger only",
        ],
        ["De-identification", "Basic Application Level Confidentiality Profile where a profile says anonymous"],
    ]
    yield Grid.of(["Property", "Value"], rows)


def _annexes(settings: Settings) -> Iterator[Block]:
    yield Heading(2, "Annex A: objects")
    yield Heading(3, "A.1 Storage SOP classes accepted")
    classes, syntaxes = claims.accepted_storage()
    yield Words(
        "All of these, and private or newer SOP classes, as SCP; stored as sent, never transcoded. Transfer syntaxes: "
        + ", ".join(UID(each).name for each in syntaxes)
        + "; private ones too."
    )
    yield Grid.of(["SOP class", "UID"], [[UID(each).name, each] for each in classes])
    yield Heading(3, "A.2 Objects created")
    written = objects_of(settings)
    yield Grid.of(
        ["Object", "SOP class", "UID", "Template", "Destinations"],
        [
            [each.name, UID(each.sop_class_uid).name, each.sop_class_uid, each.template, ", ".join(each.destinations)]
            for each in written
        ]
        or [["none", "", "", "", ""]],
    )
    yield Heading(3, "A.3 Where attributes come from")
    yield Grid.of(["Attributes", "Source"], sources())
    yield Heading(2, "Annex B: coded terminology and private attributes")
    yield Words(
        "Codes of DCM, SCT, UCUM, LN and 99-schemes that Coding Scheme Identification Sequence names. No private "
        "attribute is written. Specialised or extended SOP classes: none."
    )
