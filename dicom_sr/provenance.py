"""Who made a result, on what settings: equipment, algorithm and observer as the objects state them.

A recall of a model starts here: IHE AIR (RAD TF-3 6.5.3.1) asks for one Contributing Equipment item for each algorithm,
with a Device UID that changes whenever the model does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import highdicom as hd
from highdicom.sr import AlgorithmIdentification, DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.uid import UID

from dicom_sr import codes
from dicom_sr.identity import MANUFACTURER, MODEL_NAME, NodeIdentity
from dicom_sr.moment import Moment
from dicom_sr.uids import model_device_uid
from models.results import ModelReference

LONG_STRING = 64
SHORT_STRING = 16


def shortened(text: str, length: int = LONG_STRING) -> str:
    """``text`` cut to what an LO (64) or SH (16) may hold; a backslash would divide the value, so it becomes a slash."""
    return " ".join(text.replace("\\", "/").split())[:length].strip()


def algorithm_parameters(model: ModelReference, additions: Mapping[str, str] | None = None) -> dict[str, str]:
    """Everything that changed the number: weights digest, execution provider, thresholds. Sorted, digest first."""
    settings = {**model.parameters, **(additions or {})}
    return {
        "weights_sha256": model.digest,
        "provider": model.provider,
        **{name: str(settings[name]) for name in sorted(settings)},
    }


def contributing_equipment(
    *, acquisition: Dataset, modality: str, models: Iterable[ModelReference], moment: Moment
) -> list[Dataset]:
    """Items of Contributing Equipment Sequence (PS3.3 Table C.12-1): the scanner, then every model.

    Parameters
    ----------
    acquisition : Dataset
        Equipment attributes of the source series. Without a Manufacturer (Type 1 here) no item is written for it.
    modality : str
        Modality of the source, for the description.
    models : iterable of ModelReference
        In the order in which they contributed; a model named twice gets one item.
    moment : Moment
        Contribution DateTime; left out when unknown.
    """
    items = []
    if acquisition.get("Manufacturer"):
        scanner = _equipment(codes.ACQUISITION_EQUIPMENT, f"Acquisition of the source images ({modality or 'unknown'})")
        for element in acquisition:
            if not element.is_empty:
                scanner.add(element)
        items.append(scanner)
    for model in {m.digest: m for m in models}.values():
        processing = _equipment(codes.PROCESSING_EQUIPMENT, "Artificial intelligence model that made this result")
        processing.Manufacturer = shortened(model.manufacturer)
        processing.ManufacturerModelName = shortened(model.name)
        processing.SoftwareVersions = shortened(model.version)
        processing.DeviceSerialNumber = shortened(model.digest)
        processing.DeviceUID = model_device_uid(model.digest)
        if moment.date:
            processing.ContributionDateTime = moment.date_time
        items.append(processing)
    return items


def _equipment(purpose: codes.Code, description: str) -> Dataset:
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [codes.item(purpose)]
    equipment.ContributionDescription = description
    return equipment


def add_equipment(target: Dataset, identity: NodeIdentity) -> None:
    """Write (Enhanced) General Equipment (PS3.3 C.7.5.1, C.7.5.2): the node as the maker of the object."""
    target.Manufacturer = MANUFACTURER
    target.ManufacturerModelName = MODEL_NAME
    target.DeviceSerialNumber = shortened(identity.serial_number)
    target.SoftwareVersions = shortened(identity.software_version)
    target.StationName = shortened(identity.name, SHORT_STRING)
    if identity.institution:
        target.InstitutionName = shortened(identity.institution)


def segmentation_algorithm(model: ModelReference) -> hd.AlgorithmIdentificationSequence:
    """Algorithm Identification Macro (PS3.3 Table 10-19) of a segment."""
    return hd.AlgorithmIdentificationSequence(
        name=shortened(model.name),
        version=shortened(model.version),
        source=shortened(model.manufacturer),
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=algorithm_parameters(model),
    )


def measurement_algorithm(model: ModelReference, additions: Mapping[str, str] | None = None) -> AlgorithmIdentification:
    """TID 4019 for a number or a measurement group. ``additions`` are further parameters, e.g. a detection limit."""
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        manufacturer=model.manufacturer,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[f"{name}={value}" for name, value in algorithm_parameters(model, additions).items()],
    )


def observer(identity: NodeIdentity) -> ObserverContext:
    """TID 1002/1004: a device said this, not a person."""
    return ObserverContext(
        observer_type=dictionary.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=UID(identity.device_uid),
            name=identity.name,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=identity.serial_number,
        ),
    )
