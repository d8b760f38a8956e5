"""The only reader of node.toml and routing.toml.

Every key is declared here, with unit and range; unknown keys, clashes and bad ranges stop the start with
file, key and remedy. Without any file the node works on loopback.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from dicom_sr.profile import Profile
from node.errors import ConfigError
from node.toml_file import DEFAULT_DATA_DIR, anchored, read_toml


def _ae_title(value: str) -> str:
    """PS3.5 6.2 VR AE: 1 to 16 characters of the default repertoire, no backslash, no control, not only spaces."""
    stripped = value.strip(" ")
    if not 1 <= len(stripped) <= 16 or "\\" in stripped or not stripped.isascii() or not stripped.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return stripped


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _beside(value: Path, info: ValidationInfo) -> Path:
    """A relative path counts from the configuration's folder, so that every process of the node agrees."""
    return anchored(value, info.context) if isinstance(info.context, Path) else value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
FilePath = Annotated[Path, AfterValidator(_beside)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSection(Section):
    """Who this node is."""

    name: Name = "ainode"
    ae_title: AETitle = "AINODE"
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    language: Literal["en", "ja"] = "en"
    institution: str = ""


class StoreSection(Section):
    """Where the index, jobs and ledger live. Empty url: SQLite in data_dir."""

    url: str = ""
    busy_timeout_seconds: float = Field(default=30.0, gt=0, le=600)


class PeerRule(Section):
    """Who may open an association: AE title (``*`` for any) from an address or network, with a certificate if named."""

    ae_title: str = "*"
    address: Network = "127.0.0.0/8"
    called_ae_titles: list[AETitle] = Field(default_factory=list)
    certificate: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.ae_title != "*":
            _ae_title(self.ae_title)
        return self


class ReceiveTlsSection(Section):
    """The listener that speaks TLS, on a port of its own."""

    enabled: bool = False
    port: Port = 2762
    certificate: FilePath | None = None
    key: FilePath | None = None
    ca: FilePath | None = None
    require_client_certificate: bool = True
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    handshake_seconds: float = Field(default=10.0, gt=0, le=60)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in ("certificate", "key"):
            if self.enabled and getattr(self, name) is None:
                raise ValueError(f"{name}: is needed where enabled = true; name a PEM file")
        if self.enabled and self.require_client_certificate and self.ca is None:
            raise ValueError("ca: is needed to check client certificates; name a PEM file of trusted authorities")
        return self


class ReceiveSection(Section):
    """The C-STORE and C-ECHO listener."""

    plain: bool = True
    host: str = "127.0.0.1"
    port: Port = 11112
    tls: ReceiveTlsSection = Field(default_factory=ReceiveTlsSection)
    users: FilePath | None = None
    require_user_identity: bool = False
    rate_per_minute: int = Field(default=0, ge=0, le=1000000)
    rate_per_minute_of_address: int = Field(default=0, ge=0, le=1000000)
    called_ae_titles: list[AETitle] = Field(default_factory=list)
    allow: list[PeerRule] = Field(default_factory=lambda: [PeerRule(), PeerRule(address="::1/128")])
    mode: Literal["instance", "association"] = "instance"
    processes: int = Field(default=1, ge=1, le=64)
    maximum_associations: int = Field(default=64, ge=1, le=1000)
    maximum_pdu_bytes: int = Field(default=262144, ge=4096, le=8388608)
    maximum_object_bytes: int = Field(default=4 * 1024**3, ge=1024)
    maximum_object_seconds: float = Field(default=3600.0, gt=0, le=86400)
    lane: Literal["auto", "stock"] = "auto"
    idle_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    disk_reserve_bytes: int = Field(default=2 * 1024**3, ge=0)

    @model_validator(mode="after")
    def _listens(self) -> Self:
        if not self.plain and not self.tls.enabled:
            raise ValueError("plain: the node would not listen at all; set plain = true, or enabled in [receive.tls]")
        if self.plain and self.tls.enabled and self.port == self.tls.port:
            raise ValueError("tls.port: TLS needs a port of its own; choose another, or set receive.plain = false")
        if self.require_user_identity and self.users is None:
            raise ValueError("users: is needed where require_user_identity = true; name the file of users")
        for rule in self.allow:
            if rule.certificate and not (self.tls.enabled and self.tls.ca):
                raise ValueError(
                    "allow.certificate: needs [receive.tls] with enabled = true and ca; nobody could match"
                )
        return self


class ArrivalSection(Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(default=20.0, ge=0, le=3600)
    association_end_quiet_seconds: float = Field(default=5.0, ge=0, le=3600)
    maximum_wait_seconds: float = Field(default=1800.0, gt=0)


class JobsSection(Section):
    """The dispatchers."""

    dispatchers: int = Field(default=1, ge=1, le=64)
    stat_slot: bool = True
    executor: Literal["local", "ray"] = "local"
    deadline_seconds: float = Field(default=600.0, gt=0, le=86400)
    maximum_attempts: int = Field(default=3, ge=1, le=20)
    lease_seconds: float = Field(default=30.0, ge=2, le=3600)
    retry_seconds: float = Field(default=5.0, ge=0, le=3600)
    threads: int = Field(default=0, ge=0, le=256)


class ModelsSection(Section):
    """Where model folders lie, beside the embedded catalogue."""

    folders: list[Path] = Field(default_factory=list)


class ProfileSection(Section):
    """What one kind of destination gets."""

    objects: list[Literal["seg", "measurements", "text", "status"]] = Field(
        default_factory=lambda: ["seg", "measurements", "text", "status"]  # type: ignore[arg-type]
    )
    languages: list[Literal["en", "ja"]] = Field(default_factory=list)
    series_number_base: int = Field(default=9000, ge=1, le=2147480000)

    def as_profile(self, name: str) -> Profile:
        """The same as the object writers take it."""
        return Profile(name=name, objects=tuple(self.objects), series_number_base=self.series_number_base)


class DestinationTlsSection(Section):
    """TLS towards a destination; the table's presence switches it on."""

    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    server_name: str = ""
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate, key: name both, or neither")
        return self


class DestinationSection(Section):
    """A DICOM destination for results."""

    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle | None = None
    profile: Name = "default"
    commitment: bool = True
    commitment_timeout_seconds: float = Field(default=300.0, gt=0)
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    retry_seconds: float = Field(default=5.0, gt=0, le=86400)
    retry_ceiling_seconds: float = Field(default=600.0, gt=0, le=86400)
    maximum_attempts: int = Field(default=50, ge=1)
    tls: DestinationTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None

    @model_validator(mode="after")
    def _identity(self) -> Self:
        if self.passcode_file is not None and not self.username:
            raise ValueError("passcode_file: needs a username beside it")
        return self


class DeliverySection(Section):
    """The sender process."""

    breaker_failures: int = Field(default=5, ge=1)
    breaker_seconds: float = Field(default=30.0, gt=0)


class WebSection(Section):
    """The console. Off unless asked for."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 8042

    @model_validator(mode="after")
    def _loopback(self) -> Self:
        if self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(
                "web.host: the console has no sign-on; keep it on 127.0.0.1 and reach it through an SSH tunnel"
            )
        return self


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class RuleMatch(Section):
    """Every given condition must hold. Text conditions are shell patterns, compared without regard to case."""

    modality: list[str] = Field(default_factory=list)
    body_part: list[str] = Field(default_factory=list)
    study_description: list[str] = Field(default_factory=list)
    protocol_name: list[str] = Field(default_factory=list)
    procedure_code: list[str] = Field(default_factory=list)
    station_name: list[str] = Field(default_factory=list)
    manufacturer: list[str] = Field(default_factory=list)
    calling_ae_title: list[str] = Field(default_factory=list)
    called_ae_title: list[str] = Field(default_factory=list)
    diffusion: bool | None = None
    minimum_instances: int = Field(default=1, ge=1)


class RuleSection(Section):
    """One rule of routing.toml: which studies go to which model and where the answer goes."""

    name: Name
    model: str
    report_model: str | None = None
    match: RuleMatch = Field(default_factory=RuleMatch)
    destinations: list[Name] = Field(default_factory=list)
    priority: Literal["stat", "urgent", "routine", "off-peak"] = "routine"
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400)
    shadow: bool = False
    parameters: dict[str, str] = Field(default_factory=dict)


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
    jobs: JobsSection = Field(default_factory=JobsSection)
    models: ModelsSection = Field(default_factory=ModelsSection)
    delivery: DeliverySection = Field(default_factory=DeliverySection)
    web: WebSection = Field(default_factory=WebSection)
    log: LogSection = Field(default_factory=LogSection)
    profile: dict[Name, ProfileSection] = Field(default_factory=dict)
    destination: dict[Name, DestinationSection] = Field(default_factory=dict)
    rule: list[RuleSection] = Field(default_factory=list)
    source: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _clashes(self) -> Self:
        for name, destination in self.destination.items():
            if destination.profile != "default" and destination.profile not in self.profile:
                raise ValueError(
                    f"destination.{name}.profile: there is no [profile.{destination.profile}]; add it or use 'default'"
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
        if self.web.enabled and (self.web.host, self.web.port) in self.receive_addresses:
            raise ValueError("web.port: the DICOM listener uses this port; choose another")
        return self

    @property
    def data_dir(self) -> Path:
        return self.node.data_dir.expanduser()

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
        if unknown := set(rules) - {"rule"}:
            raise ConfigError(
                f"{routing}: {sorted(unknown)[0]}: only [[rule]] tables belong here; move it to {path.name}"
            )
        if "rule" in content:
            raise ConfigError(f"{path}: rule: rules stand in {routing.name} as well; keep them in one file")
        content = {**content, **rules}
    settings = _validated(content, path)
    node = settings.node.model_copy(update={"data_dir": anchored(settings.node.data_dir, path)})
    return settings.model_copy(update={"node": node})


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
