"""The whole configuration, and the only reader of node.toml and routing.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from node.errors import ConfigError
from node.settings.archives import ReconcileSection, WatchSection
from node.settings.base import LogSection, NodeSection, StoreSection
from node.settings.canary import with_canary
from node.settings.delivery import DeliverySection, DestinationSection, ProfileSection
from node.settings.dicomweb import DicomWebSection
from node.settings.evidence import EvidenceSection, PriorsSection, WorklistSection
from node.settings.external import ExternalSection
from node.settings.hl7 import Hl7InboundSection
from node.settings.model_host import ModelHostSection
from node.settings.monitor import CANARY, AuditSection, CanarySection, MonitorSection
from node.settings.notify import ChannelSection, NotificationsSection, NotifySection
from node.settings.prompts import PromptSection
from node.settings.receive import ReceiveSection
from node.settings.remote import RemoteSection
from node.settings.retention import RetentionSection
from node.settings.section import Name, Section
from node.settings.similar import SimilarSection
from node.settings.web import WebSection
from node.settings.web_service import SourceSection
from node.settings.work import ArrivalSection, JobsSection, ModelsSection, RuleSection
from node.settings.workitems import WorkitemsSection
from node.toml_file import anchored, read_toml

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _same_machine(listening: str, called: str) -> bool:
    """Whether calling a name reaches what listens there, as far as names tell without asking anybody."""
    loopback, every = {"127.0.0.1", "::1", "localhost"}, {"0.0.0.0", "::"}
    return listening == called or (called in loopback | every and listening in loopback | every)


class Settings(Section):
    """One section for each room."""

    node: NodeSection = Field(default_factory=NodeSection)
    store: StoreSection = Field(default_factory=StoreSection)
    receive: ReceiveSection = Field(default_factory=ReceiveSection)
    arrival: ArrivalSection = Field(default_factory=ArrivalSection)
    evidence: EvidenceSection = Field(default_factory=EvidenceSection)
    worklist: dict[Name, WorklistSection] = Field(default_factory=dict)
    priors: PriorsSection = Field(default_factory=PriorsSection)
    reconcile: ReconcileSection = Field(default_factory=ReconcileSection)
    watch: dict[Name, WatchSection] = Field(default_factory=dict)
    workitems: dict[Name, WorkitemsSection] = Field(default_factory=dict)
    hl7: Hl7InboundSection = Field(default_factory=Hl7InboundSection)
    jobs: JobsSection = Field(default_factory=JobsSection)
    models: ModelsSection = Field(default_factory=ModelsSection)
    model_host: ModelHostSection = Field(default_factory=ModelHostSection)
    external: ExternalSection = Field(default_factory=ExternalSection)
    similar: SimilarSection = Field(default_factory=SimilarSection)
    remote: RemoteSection = Field(default_factory=RemoteSection)
    delivery: DeliverySection = Field(default_factory=DeliverySection)
    web: WebSection = Field(default_factory=WebSection)
    dicomweb: DicomWebSection = Field(default_factory=DicomWebSection)
    log: LogSection = Field(default_factory=LogSection)
    monitor: MonitorSection = Field(default_factory=MonitorSection)
    canary: CanarySection = Field(default_factory=CanarySection)
    audit: AuditSection = Field(default_factory=AuditSection)
    profile: dict[Name, ProfileSection] = Field(default_factory=dict)
    destination: dict[Name, DestinationSection] = Field(default_factory=dict)
    web_source: dict[Name, SourceSection] = Field(default_factory=dict)
    channel: dict[Name, ChannelSection] = Field(default_factory=dict)
    notifications: NotificationsSection = Field(default_factory=NotificationsSection)
    rule: list[RuleSection] = Field(default_factory=list)
    retention: RetentionSection = Field(default_factory=RetentionSection)
    prompt: list[PromptSection] = Field(default_factory=list)
    notify: list[NotifySection] = Field(default_factory=list)
    source: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _clashes(self) -> Self:
        for name, destination in self.destination.items():
            if destination.profile != "default" and destination.profile not in self.profile:
                raise ValueError(
                    f"destination.{name}.profile: there is no [profile.{destination.profile}]; add it or use 'default'"
                )
            if destination.availability is not None and self.profile_of(name).anonymous:
                raise ValueError(
                    f"destination.{name}.availability: would tell of anonymous objects under their old names"
                )
            own = [host for host, port in self.receive_addresses if port == destination.port]
            if any(_same_machine(host, destination.host) for host in own):
                raise ValueError(f"destination.{name}: points at this node's own listener; results would loop")
        names = [rule.name for rule in self.rule]
        for twice in {name for name in names if names.count(name) > 1}:
            raise ValueError(f"rule.{twice}: two rules have this name; rename one")
        for rule in self.rule:
            for name in rule.destinations:
                if name not in self.destination:
                    raise ValueError(f"rule.{rule.name}.destinations: there is no [destination.{name}]; add it")
        self._check_prompts(names)
        self._check_programs()
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Names of destinations and archives that other sections hold."""
        for twice in self.destination.keys() & self.web_source.keys():
            raise ValueError(f"web_source.{twice}: a destination has this name; rename one")
        for key, named in (
            ("evidence.commitment_archive", self.evidence.commitment_archive),
            *((f"prompt.{each.name}.destinations", name) for each in self.prompt for name in each.destinations),
        ):
            if named is not None and named not in self.destination:
                raise ValueError(f"{key}: there is no [destination.{named}]; add it")
        for key, named in (
            ("arrival.archive", self.arrival.archive),
            ("priors.archive", self.priors.archive),
            ("reconcile.archive", self.reconcile.archive),
            ("retention.archive", self.retention.archive),
            *((f"watch.{name}", name) for name in self.watch),
            *((f"workitems.{name}.archive", section.archive) for name, section in self.workitems.items()),
            *((f"prompt.{each.name}.archive", each.archive) for each in self.prompt),
        ):
            if named is not None and named not in self.archives:
                raise ValueError(f"{key}: there is no [destination.{named}] or [web_source.{named}]; add it")
        return self

    def _check_programs(self) -> None:
        """What programs may read must not hold what the node keeps, nor lie within it."""
        own = self.data_dir.absolute()
        for folder in self.external.folders:
            if own.is_relative_to(folder) or folder.is_relative_to(own):
                raise ValueError(f"external.folders: programs would see data_dir in {folder}; name another folder")

    def _check_prompts(self, rules: list[str]) -> None:
        names = [*rules, *(prompt.name for prompt in self.prompt)]
        for prompt in self.prompt:
            if names.count(prompt.name) > 1:
                raise ValueError(f"prompt.{prompt.name}: a rule or another prompt has this name; rename one")

    @model_validator(mode="after")
    def _watched(self) -> Self:
        """Who is told of alarms, and what the canary must not meet."""
        for key, names in (
            ("monitor.channels", self.monitor.channels),
            ("monitor.digest_channels", self.monitor.digest_channels),
        ):
            for name in names:
                if name not in self.channel:
                    raise ValueError(f"{key}: there is no [channel.{name}]; add it")
                if self.channel[name].kind not in ("email", "webhook"):
                    raise ValueError(f"{key}: {name} takes results only; name a channel of kind email or webhook")
        if not self.canary.enabled:
            return self
        for table, taken in (
            ("rule", {rule.name for rule in self.rule}),
            ("destination", set(self.destination)),
            ("profile", set(self.profile)),
        ):
            if CANARY in taken:
                raise ValueError(f"{table}.{CANARY}: this name is the canary's own; choose another")
        if any(port == self.canary.port for _, port in self.receive_addresses):
            raise ValueError("canary.port: the DICOM listener uses this port; choose another")
        if not self.receive.plain and self.canary.tls is None:
            raise ValueError("canary.tls: is needed where receive.plain = false; name ca, certificate and key")
        if self.canary.host not in _LOOPBACK:
            raise ValueError("canary.host: the canary's own test AE listens on loopback only")
        return self

    @model_validator(mode="after")
    def _ports(self) -> Self:
        """No two services on one port."""
        for name, section in (("hl7", self.hl7), ("web", self.web)):
            if section.enabled and (section.host, section.port) in self.receive_addresses:
                raise ValueError(f"{name}.port: the DICOM listener uses this port; choose another")
        if self.hl7.enabled and self.web.enabled and (self.hl7.host, self.hl7.port) == (self.web.host, self.web.port):
            raise ValueError("hl7.port: the console uses this port; choose another")
        return self

    @model_validator(mode="after")
    def _told(self) -> Self:
        """Names in rules of who is told."""
        if self.notifications.public_url and not self.web.enabled:
            raise ValueError(
                "notifications.public_url: the console is off, so links would lead nowhere; set web.enabled"
            )
        names = [notify.name for notify in self.notify]
        for twice in {name for name in names if names.count(name) > 1}:
            raise ValueError(f"notify.{twice}: two rules have this name; rename one")
        for notify in self.notify:
            for key, named, known in (
                ("channels", notify.channels, self.channel),
                ("escalate", [name for step in notify.escalate for name in step.channels], self.channel),
                ("destinations", notify.destinations, self.destination),
            ):
                for name in named:
                    if name not in known:
                        table = "destination" if key == "destinations" else "channel"
                        raise ValueError(f"notify.{notify.name}.{key}: there is no [{table}.{name}]; add it")
        return self

    @property
    def data_dir(self) -> Path:
        return self.node.data_dir.expanduser()

    @property
    def archives(self) -> frozenset[str]:
        """Names under which studies can be asked for: destinations and web sources."""
        return frozenset([*self.destination, *self.web_source])

    @property
    def called_ae_titles(self) -> frozenset[str]:
        """Every AE title this node answers to."""
        return frozenset([self.node.ae_title, *self.receive.called_ae_titles])

    @property
    def receive_addresses(self) -> list[tuple[str, int]]:
        """Host and port of every DICOM listener, the plain one first."""
        receive = self.receive
        plain = [(receive.host, receive.port)] if receive.plain else []
        return [*plain, (receive.host, receive.tls.port)] if receive.tls.enabled else plain

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the store."""
        return self.store.url or f"sqlite:///{self.data_dir / 'node.db'}"

    def profile_of(self, destination: str) -> ProfileSection:
        """The profile a destination uses; the built-in default where none is configured."""
        return self.profile.get(self.destination[destination].profile, ProfileSection())


def load(path: Path | None = None) -> Settings:
    """Read node.toml, and routing.toml beside it if there is one.

    Parameters
    ----------
    path : Path or None
        node.toml. None gives the loopback defaults.

    Raises
    ------
    ConfigError
        Naming file, key and remedy.
    """
    if path is None:
        return _validated({}, None)
    content = read_toml(path)
    routing = path.with_name("routing.toml")
    if routing.exists():
        rules = read_toml(routing)
        if unknown := set(rules) - {"rule", "notify", "prompt"}:
            raise ConfigError(
                f"{routing}: {sorted(unknown)[0]}: only [[rule]], [[prompt]] and [[notify]] belong here; "
                f"move it to {path.name}"
            )
        for key in sorted(set(rules).intersection(content)):
            raise ConfigError(f"{path}: {key}: rules stand in {routing.name} as well; keep them in one file")
        content = {**content, **rules}
    settings = _validated(content, path)
    node = settings.node.model_copy(update={"data_dir": anchored(settings.node.data_dir, path)})
    return with_canary(settings.model_copy(update={"node": node}))


def _validated(content: dict[str, Any], path: Path | None) -> Settings:
    try:
        return Settings.model_validate({**content, "source": path}, context=path)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = (
            "is not a known key; remove it or correct its spelling"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        raise ConfigError(
            f"{path or 'defaults'}: {key + ': ' if key else ''}{what.removeprefix('Value error, ')}"
        ) from error
