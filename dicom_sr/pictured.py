"""The kinds of objects that hold drawn pages or pictures: Secondary Captures and PDF."""

from __future__ import annotations

from dicom_sr import encapsulated_pdf, secondary_capture
from dicom_sr.illustration import Illustration
from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.scene import Scene
from dicom_sr.source_header import SourceHeader
from models.results import StudyResult


def captures(scene: Scene) -> list[RenderedObject]:
    """A picture of each slice that shows something."""
    shown = Illustration.of(scene.result, scene.study, scene.source)
    return secondary_capture.render_captures(shown, scene.header, scene.context)


def summaries(scene: Scene) -> list[RenderedObject]:
    """One picture that tells the result."""
    shown = Illustration.of(scene.result, scene.study, scene.source)
    made = secondary_capture.render_summary(shown, scene.header, scene.context)
    return [RenderedObject(secondary_capture.SUMMARY, made)]


def status_pictures(result: StudyResult, header: SourceHeader, context: RenderContext) -> list[RenderedObject]:
    """One picture that says why nothing was assessed."""
    draft = next(iter(result.drafts), None)
    made = secondary_capture.render_status_picture(result, draft, header, context)
    return [RenderedObject(secondary_capture.SUMMARY, made)]


def pdfs(scene: Scene) -> list[RenderedObject]:
    """The report in each language of its drafts."""
    return [
        RenderedObject(
            encapsulated_pdf.role_of(draft.language),
            encapsulated_pdf.render_pdf(
                Illustration.of(scene.result, scene.study, scene.source, draft),
                draft,
                scene.header,
                scene.context,
                instance=n,
            ),
        )
        for n, draft in enumerate(scene.result.drafts, start=1)
    ]
