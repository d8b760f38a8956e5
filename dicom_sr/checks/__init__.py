"""The parts of the check every set of objects passes before it may leave; see :mod:`dicom_sr.check`.

Each part is a function from a :class:`~dicom_sr.checks.subject.Subject` to the problems it found, in words. None shares
code with what renders the objects, so that one mistake is not made twice.
"""
