"""The graphs of one model: verified against their pinned digests, loaded when they are needed, and where they are.

What is loaded shares memory with the graphs of other models (:mod:`models.warm_pool`), and may have to leave a device for the
CPU (:mod:`models.placement`).
"""

from __future__ import annotations

from pathlib import Path

from models.card import Card, PinnedFile, file_digest
from models.errors import DigestMismatch, GraphMismatch, OutOfMemory, ProviderMissing
from models.external_data import pinned_data
from models.opset import opset_of
from models.placement import Left, Placement
from models.runtime_settings import RunsWith
from models.session import CPU, Session, preferred_providers, providers_here
from models.warm_pool import MEBIBYTE, ROOM, WarmPool


class LoadedGraphs:
    """What of a model is loaded.

    Parameters
    ----------
    folder : Path
        Folder of the card and its files.
    threads : int
        Threads within one operator where the card states none; 0 leaves it to the runtime.
    """

    def __init__(self, folder: Path, card: Card, *, threads: int, pool: WarmPool) -> None:
        self._folder, self._card, self._threads, self._pool = folder, card, threads, pool
        self._placement = Placement(card.runtime)
        self._took = 0
        self._verified: set[str] = set()
        self.sessions: dict[str, Session] = {}

    @property
    def provider(self) -> str:
        """Execution provider that runs it, or would."""
        loaded = [session.provider for session in self.sessions.values()]
        return (loaded or self.runs_with.providers or preferred_providers())[0]

    def session(self, name: str) -> Session:
        """Session of graph ``name``: verified, loaded once, kept.

        Raises
        ------
        DigestMismatch
            The file is missing or differs from its pinned digest.
        GraphMismatch
            There is no such graph, or its opset, inputs or outputs are not those of the card.
        OutOfMemory
            Its weights would not fit, whatever else is unloaded; :mod:`models.room_on_device` where that is a device's.
        """
        self._pool.use(self)
        if name not in self.sessions:
            if name not in self._card.graphs:
                raise GraphMismatch(f"{self._card.id}: the card has no graph named {name}")
            graph = self._card.graphs[name]
            path = self.once(graph)
            files = [path, *(self.once(each) for each in pinned_data(self._folder, self._card, path))]
            if (opset := opset_of(path)) != graph.opset:
                raise GraphMismatch(f"{self._card.id}: {graph.file} is of opset {opset}; card: {graph.opset}")
            self._find_room(sum(each.stat().st_size for each in files), f"{self._card.id}: graph {name}")
            session = Session(
                path,
                providers=self._allowed_providers(),
                threads=self.runs_with.threads,
                memory_arena=self.runs_with.memory_arena,
                model=self._card.id,
            )
            for what, found, stated in (
                ("inputs", session.inputs, graph.inputs),
                ("outputs", session.outputs, graph.outputs),
            ):
                if found != stated:
                    raise GraphMismatch(
                        f"{self._card.id}: {what} of {graph.file} are {', '.join(found)}; card: {', '.join(stated)}"
                    )
            self.sessions[name] = session
        return self.sessions[name]

    def _find_room(self, size: int, what: str) -> None:
        """Raises OutOfMemory where a graph with ``size`` bytes of weights would not fit."""
        self._pool.admit(self, size, what)
        provider = self._allowed_providers()[0]
        if provider == CPU:
            return
        stated = (self._card.runtime.device_memory_mib or 0) * MEBIBYTE or self._took
        if stated and self.on_device:
            return  # all of its graphs have been asked for with the first
        wanted, least = (stated, stated) if stated else (size * ROOM, size)
        try:
            self._pool.admit_on_device(self, wanted, least, what, provider)
        except OutOfMemory as error:
            raise OutOfMemory(error.message, **error.detail, model=self._card.id) from None

    @property
    def runs_with(self) -> RunsWith:
        """What the card's ``[runtime]`` comes to on this node and machine."""
        runtime = self._card.runtime
        return RunsWith(
            threads=self._threads if runtime.threads is None else runtime.threads,
            memory_arena=runtime.memory_arena,
            deadline_seconds=runtime.deadline_seconds,
            providers=self._placement.providers(providers_here()),
        )

    def _allowed_providers(self) -> tuple[str, ...]:
        """Raises ProviderMissing where the machine has none that the card allows."""
        if not (providers := self.runs_with.providers):
            raise ProviderMissing(f"{self._card.id} runs only on {' or '.join(self._card.runtime.providers)}")
        return providers

    @property
    def on_device(self) -> bool:
        """Whether a loaded graph of it is on a GPU."""
        return any(session.provider != CPU for session in self.sessions.values())

    def unload(self) -> bool:
        """Let go of every loaded graph; it is verified and loaded again when it is needed. False where there is none."""
        loaded, left = bool(self.sessions), self.on_device
        before = self._pool.on_device() if left else None
        self.sessions.clear()
        # Until then the files are nobody's: they may be exchanged behind the card.
        self._verified.clear()
        if before is not None and (after := self._pool.on_device()) is not None:
            # What it gives back is what it had come to take, weights and the most that it had computed with.
            self._took = max(0, after.free - before.free)
        return loaded

    def fall_back_to_cpu(self, why: Left = Left.ANSWERS) -> bool:
        """Drop what is loaded and use the CPU from now on; False where it runs there already, or its card forbids it."""
        if all(each == CPU for each in [session.provider for session in self.sessions.values()] or [self.provider]):
            return False
        if not self._placement.may_leave:
            return False
        self.unload()
        self._placement.leave(why, self._pool.on_device())
        return True

    def make_room_on_device(self) -> bool:
        """Have every other model leave the GPU, and this one, too, to be loaded anew; False where no other was there."""
        cleared = self._pool.clear_device(self)
        if cleared:
            self.unload()
        return cleared

    def return_to_device(self) -> bool:
        """Use the GPU again that had too little memory, where another try is worth while; False where it is not."""
        if self.left is not Left.MEMORY:
            return False
        if not self._placement.may_return(self._pool.on_device()):
            return False
        self.unload()
        self._placement.come_back()
        return True

    @property
    def left(self) -> Left | None:
        """Why it left a device for the CPU; None where it did not."""
        return self._placement.left

    def verify(self) -> None:
        """Compare every pinned file with its digest, now.

        Raises
        ------
        DigestMismatch
            A file is missing or differs.
        """
        for pinned in self._card.pinned:
            self._verify(pinned)

    def once(self, pinned: PinnedFile) -> Path:
        """Path of a pinned file, verified once. Raises DigestMismatch."""
        if pinned.file not in self._verified:
            self._verify(pinned)
            self._verified.add(pinned.file)
        return self._folder / pinned.file

    def _verify(self, pinned: PinnedFile) -> None:
        try:
            found = file_digest(self._folder / pinned.file)
        except OSError as error:
            raise DigestMismatch(f"{self._card.id}: {pinned.file} cannot be read: {error.strerror}") from error
        if found != pinned.sha256:
            raise DigestMismatch(
                f"{self._card.id}: {pinned.file} has digest {found}, the card pins {pinned.sha256}",
                file=pinned.file,
                found=found,
                pinned=pinned.sha256,
            )
