"""``ainode models``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app
from node.commands.chain_cards import chain
from node.commands.graph_lines import graph_lines
from node.commands.member_lines import made_of, member_lines
from node.commands.model_packages import export_model
from node.commands.model_serving import approve, revoke, rollback
from node.commands.model_sources import import_checkpoint
from node.installed_models import chosen, registry_of

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry
    from node.settings import Settings

app = new_app("List, show, verify and run models.")


@app.command("list")
def list_models(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON; every known system, installed or not.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every known system, installed or not.")] = False,
) -> None:
    """List installed models, and what else the catalogue knows."""
    from node.commands.table import show

    registry = _listed(ctx.obj.settings())
    rows = [
        {
            "model": each.card.id,
            "version": each.card.version,
            "family": each.card.family,
            "licence": each.card.licence,
            "status": _status(registry, each),
            "name": each.card.name,
        }
        for each in registry.list()
    ]
    if as_json or everything:
        rows = _with_systems(rows, details=as_json)
    show(rows, as_json=as_json, empty="no models")


@app.command()
def info(ctx: typer.Context, model: Annotated[str, typer.Argument(help="Model id.")]) -> None:
    """Show a model's card as it was read, its digest, and with what it runs on this node."""
    from models.device_memory import MEBIBYTE, device_memory

    found = _registry(ctx.obj.settings(), model).get(model)
    card: dict[str, Any] = found.card.model_dump(mode="json")
    memory = device_memory()
    # Null where there is no GPU, or nobody can say.
    gpu = None if memory is None else {name: value // MEBIBYTE for name, value in asdict(memory).items()}
    here = {"digest": found.digest, "runs_with": asdict(found.runs_with), "gpu_memory_mib": gpu, **_made_of(found)}
    typer.echo(json.dumps({**card, **here}, indent=2, ensure_ascii=False))


@app.command()
def verify(
    ctx: typer.Context, model: Annotated[str | None, typer.Argument(help="Model id; all when left out.")] = None
) -> None:
    """Check files against the digests pinned in their cards, load the graphs, ask for known answers; show their shapes."""
    from models.errors import NodeError

    registry = _registry(ctx.obj.settings(), *([model] if model else []))
    failed = 0
    for name in [model] if model else [*map(registry.name, registry.list()), *sorted(registry.problems)]:
        try:
            found = registry.get(name)
            found.verify()
            found.warm()
            answers = found.self_test()
            known = f", {len(answers)} known answers right" if answers else ", no known answer to ask for"
            lines = [*graph_lines(found), *member_lines(found)]
            typer.echo("\n".join([f"{name}: good, digest {found.digest}{known}", *lines]))
        except NodeError as error:
            typer.echo(f"{name}: {error}", err=True)
            failed += 1
    if failed:
        raise typer.Exit(1)


@app.command()
def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders of one study.")],
) -> None:
    """Run a model on DICOM files and print what it measured; writes no objects."""
    from dicom_sr.roles import fill_roles
    from dicom_sr.series import load_study
    from models.lineage import lineage
    from models.registry import Registry
    from models.room_on_device import where_there_is_room
    from models.volume_range import range_ml
    from node.commands.text_bar import text_bar
    from node.external.desk import ProgramDesk
    from node.external.handing_over import series_files
    from node.offline import one_study

    settings = ctx.obj.settings()
    desk = ProgramDesk()
    files = one_study(paths).files
    by_series = series_files(files)
    with text_bar() as bar:
        registry = Registry(settings.models.folders, threads=settings.jobs.threads, programs=desk, progress=bar)
        found = chosen(registry, settings, model).get(model)
        sources = fill_roles(load_study(files), found.card.inputs)
        desk.prepare(settings.external, {role: by_series[each.series_uid] for role, each in sources.items()}, None)
        volumes = {role: source.volume for role, source in sources.items()}
        result = where_there_is_room(lambda: lineage(found, standing_in=True), lambda: found.run(volumes, {}))
    regions = result.segmentation.regions if result.segmentation else ()
    facts = {
        "outcome": result.outcome.value,
        "total_ml": result.total_ml,
        "total_range_ml": range_ml(result.totals),
        "detection_limit_ml": result.detection_limit_ml,
        "regions": [
            {"label": each.label, "volume_ml": each.volume_ml, "range_ml": range_ml(each.quantities)}
            for each in regions
        ],
        "provider": result.model.provider,
        "evidence": result.evidence,
    }
    typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))


@app.command("debug-bundle")
def debug_bundle(
    ctx: typer.Context,
    job: Annotated[int, typer.Argument(help="Number of the job.")],
    out: Annotated[Path, typer.Option("--out", help="New file (zip).")],
) -> None:
    """Write arrays, geometry, card, versions and result of a job, without identity, for the model's engineer."""
    from node.commands.table import opened
    from node.debug_job import bundle_of_job

    settings = ctx.obj.settings()
    with opened(settings) as store:
        manifest = bundle_of_job(settings, store, job, out)
    for role, each in manifest["inputs"].items():
        typer.echo(f"{role}: {' x '.join(map(str, each['shape_zyx']))} voxels")
    typer.echo(f"{out}: replay it with `ainode models replay {out}` where the model is installed")
    typer.echo(
        "The arrays are the patient's images: a head has a face, and pixels may hold words. Pass it on accordingly."
    )


@app.command()
def replay(
    ctx: typer.Context,
    bundle: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File of `ainode models debug-bundle`.")],
) -> None:
    """Run a debug bundle here, and say what is different; exit code 1 where something is."""
    from node.debug_replay import replay as run_again

    report = run_again(bundle, _registry(ctx.obj.settings()))
    typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    if report["differences"]:
        raise typer.Exit(1)


app.command()(approve)
app.command()(rollback)
app.command()(revoke)
app.command("import")(import_checkpoint)
app.command("export")(export_model)
app.command("chain")(chain)


@app.command("train-head")
def train_head(
    ctx: typer.Context,
    backbone: Annotated[str, typer.Argument(help="Id of an installed model that gives embeddings.")],
    table: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV: file, patient, a column with 0 or 1 a finding.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for card, graph and training log.")],
    model_id: Annotated[str, typer.Option("--id", help="Id of the new model.")],
    title: Annotated[str, typer.Option("--title", help="What it looks for, as reports will say it.")],
    preprocessing: Annotated[str | None, typer.Option("--preprocessing", help="One of the backbone's.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and the resampling.")] = 0,
) -> None:
    """Train a head on a site's own labelled images, and measure it on patients held back."""
    from node.head_training import train_from_table

    found = _registry(ctx.obj.settings()).get(backbone)
    log = train_from_table(found, table, out, model_id=model_id, title=title, seed=seed, preprocessing=preprocessing)
    for name, finding in log["findings"].items():
        held = finding["held_back"]
        low, high = held["auc_95"]
        typer.echo(
            f"{name}: area under the ROC curve {held['auc']:.3f} (95 % interval {low:.3f} to {high:.3f}) on {held['patients']} "
            f"patients held back; trained on {finding['trained_on']['patients']}"
        )
    typer.echo(f"{model_id}: in {out}; a named person must approve it before it serves (`ainode models approve`)")


def _with_systems(installed: list[dict[str, Any]], *, details: bool) -> list[dict[str, Any]]:
    """Installed models, then the systems that are not, as docs/models.md lists them."""
    from models.export.table import rows

    known = {row["system"]: row for row in rows()}
    listed = [{**known.get(row["model"], {}), **row, "installed": True} for row in installed]
    there = {row["model"] for row in installed}
    for name, row in ((name, row) for name, row in known.items() if name not in there):
        licence = f"{row['licence_code']} / {row['licence_weights']}"
        shown = {"model": name, "version": "", "family": row["family"], "licence": licence, "status": row["status"]}
        listed.append({**row, **shown, "name": row["title"], "installed": False})
    columns = ("model", "version", "family", "licence", "status", "name")
    return listed if details else [{key: row[key] for key in columns} for row in listed]


def _listed(settings: Settings) -> Registry:
    """Every model, with the approvals where the database can be had: a list is wanted most where something is broken."""
    from node.errors import StoreError

    registry = registry_of(settings)
    try:
        return chosen(registry, settings, *(each.card.id for each in registry.list()))
    except StoreError as error:
        typer.echo(f"{error}; approvals are not known, and nothing counts as approved", err=True)
        return registry


def _made_of(model: Model) -> dict[str, Any]:
    """Of a chain, the models it may be made of, whether it is made of them now, and what speaks against the others."""
    rows = made_of(model)
    return {"made_of": rows} if rows else {}


def _status(registry: Registry, model: Model) -> str:
    if missing := registry.missing(model):
        return f"needs {', '.join(missing)}"
    return "runs" if registry.stands(model) else "beside"


def _registry(settings: Settings, *models: str) -> Registry:
    return chosen(registry_of(settings), settings, *models)
