"""``ainode models import``: a checkpoint converted, published graphs taken over, or a package installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.commands.model_packages import import_package


def import_checkpoint(
    system: Annotated[str, typer.Argument(help="System the checkpoint is of, e.g. medsam; or, alone, a package.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for card, graphs and report.")],
    checkpoint: Annotated[Path | None, typer.Argument(exists=True, help="The released file or folder.")] = None,
    weights: Annotated[
        str,
        typer.Option("--weights", help="float; int8, fp16 or int4 of a model that writes text: its drift is measured."),
    ] = "float",
    most_changed: Annotated[
        float | None,
        typer.Option(
            "--most-changed", help="Share of words that may change; else 0.05 for int8 and int4, 0.01 for fp16."
        ),
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(
            "--decoder",
            exists=True,
            file_okay=False,
            help="Folder with the decoder that onnxruntime-genai's builder wrote, in place of the node's own.",
        ),
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", help="onnx-folder: take the published file of this ending, as int8 or fp16.")
    ] = "",
) -> None:
    """Convert a released checkpoint to ONNX, and prove that it equals the original; or install a package of another node."""
    if checkpoint is None:
        import_package(Path(system), out)
        return
    from node.commands.step_bar import step_bar
    from node.model_import import import_model, planned

    with step_bar(planned(system, weights=weights)) as hears:
        report = import_model(
            system,
            checkpoint,
            out,
            weights=weights,
            most_changed=most_changed,
            decoder=decoder,
            variant=variant,
            hears=hears,
        )
    published = report.get("published", {})
    for name, graph in report["graphs"].items():
        if not graph["relative_differences"]:
            typer.echo(f"{name}: taken as published and NOT compared with the original: {published['not_compared']}")
            continue
        worst = max(graph["relative_differences"])
        than = "torch" if graph["exporter"] in ("dynamo", "legacy") else "the node's own export"
        typer.echo(f"{name}: {graph['exporter']} exporter, differs from {than} by at most {worst:.1e} (relative)")
    if "drift" in report["weights"]:
        drift, size = report["weights"]["drift"], report["weights"]
        typer.echo(
            f"{size['kind']} weights: {drift['changed']:.1%} of {drift['places']} words changed; "
            f"{size['bytes'] / 2**20:.1f} MiB in place of {size['bytes_float'] / 2**20:.1f}"
        )
    if not report["keys"]:
        typer.echo(f"{report['model']}: from {published['file']}; in {out}")
    else:
        typer.echo(f"{report['model']}: {report['keys']} keys, none missing, {_rest(report['unused'])}; in {out}")
    typer.echo(f"Add its parent to [models] folders in node.toml, then `ainode models verify {report['model']}`.")


def _rest(unused: int) -> str:
    return f"{unused} of parts that are not converted" if unused else "none left over"
