"""What the operator sets. Values come from the command line and, below it, from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from engine.domain.errors import InvalidInput, Violation
from engine.journal.places import database_at
from engine.market.commands import HoldLimits, OrderLimits
from engine.market.heartbeats import HeartbeatRules
from engine.market.ledger.rules import LedgerRules
from engine.oracle.parameters import HOUR_US, OracleParameters
from engine.service.fields import Checks
from engine.service.references import PriceSource, price_source
from engine.service.security_options import security_violations
from engine.trust.quotas import Quotas

PATHS = {"data_dir", "auth_revoked", "tls_cert", "tls_key", "tls_client_ca"}
SECURITY_TEXTS = (
    *("auth_jwks", "auth_issuer", "auth_audience", "auth_claim_prefix", "auth_revoked"),
    *("tls_cert", "tls_key", "tls_client_ca", "node_listen"),
)
HISTORY_KEPT_US = 7 * 24 * HOUR_US
DEFAULT_RULES = LedgerRules()


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """What is set of the ledger's rules; ranges and meaning as there. The network fee is the oracle's parameter.

    `require_deposit`: None: unless in development mode.
    """

    require_deposit: bool | None = None
    burn_ppm: int = DEFAULT_RULES.burn_ppm
    make_whole_ppm: int = DEFAULT_RULES.make_whole_ppm
    settlement_period_s: int = DEFAULT_RULES.settlement_period_s
    statement_kept_s: int = DEFAULT_RULES.statement_kept_s

    def __post_init__(self) -> None:
        self.rules(dev=False, network_fee_ppm=0)

    def rules(self, dev: bool, network_fee_ppm: int) -> LedgerRules:
        """The rules; InvalidInput lists what is out of its range."""
        required = not dev if self.require_deposit is None else self.require_deposit
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return LedgerRules(**given | {"require_deposit": required, "network_fee_ppm": network_fee_ppm})


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options of `walras serve`; checked when born, InvalidInput lists what is wrong.

    `listen`: HOST:PORT, port 0 picks a free one. `dev`: identity is whatever the caller says; loopback only.
    """

    listen: str = "127.0.0.1:7070"
    data_dir: Path = Path("walras-data")
    database_url: str = ""
    """Of the journal that replicas share; empty: the embedded one in `data_dir`."""
    advertise: str = ""
    """HOST:PORT at which followers tell callers to find this engine while it leads; empty: as `listen` says."""
    leader_lease_s: float = 3.0
    snapshot_events: int = 100_000
    """How many events may have to be replayed at a start."""
    dev: bool = False
    message_bytes_max: int = 64 * 1024
    deadline_s_max: float = 30.0
    drain_s: float = 10.0
    oracle: OracleParameters | None = None
    """None: `default_parameters`, which knows whether price sources are named."""
    price_sources: tuple[PriceSource, ...] = ()
    holds: HoldLimits = field(default_factory=HoldLimits)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    orders: OrderLimits = field(default_factory=OrderLimits)
    heartbeats: HeartbeatRules = field(default_factory=HeartbeatRules)
    oracle_tick_s: float = 1.0
    """How often it is looked whether an epoch is due; 0: no oracle, prices stay as they are."""
    interruptible_notice_s: int = 120
    """Between the notice that interruptible work was outbid and its end."""

    quotas: Quotas | None = None
    """None: the usual ones; in development mode, none."""
    auth_jwks: str | None = None
    """File or URL of the issuer's public keys; None: no token can be verified."""
    auth_issuer: str = ""
    auth_audience: str = ""
    auth_claim_prefix: str = "walras_"
    auth_revoked: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """Who signs clients' certificates; without `node_listen`, `listen` demands one of every caller."""
    node_listen: str | None = None
    """A second listener, for nodes, that demands a client certificate."""

    def __post_init__(self) -> None:
        violations = []
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            violations.append(Violation("listen", f"must be HOST:PORT, got {self.listen!r}"))
        elif self.dev and host not in ("127.0.0.1", "localhost", "[::1]"):
            violations.append(Violation("listen", "--dev trusts every caller, so it listens on loopback only"))
        for name, low, high in (
            ("message_bytes_max", 1_024, 4 * 1024 * 1024),
            ("deadline_s_max", 0.1, 600),
            ("drain_s", 0, 600),
            ("oracle_tick_s", 0, 60),
            ("interruptible_notice_s", 0, 86_400),
            ("leader_lease_s", 0.2, 60),
            ("snapshot_events", 1, 10**9),
        ):
            if not low <= getattr(self, name) <= high:
                violations.append(Violation(name, f"must be between {low} and {high}"))
        if self.database_url:
            violations += _url_violations(self.database_url)
        violations += security_violations(self)
        if violations:
            raise InvalidInput(violations)


def _url_violations(url: str) -> tuple[Violation, ...]:
    try:
        if database_at(url).is_shared:
            return ()
    except InvalidInput as error:
        return error.violations
    return (Violation("database-url", "must name a PostgreSQL database; for SQLite say --data-dir"),)


def read_config(path: Path) -> dict[str, Any]:
    """Options from a TOML file, by the names of `ServerOptions`; InvalidInput names file and field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput([Violation(path.name, error.strerror or "cannot be read")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput([Violation(path.name, f"is not TOML: {error}")]) from None
    types = {
        "listen": str,
        "data_dir": str,
        "database_url": str,
        "advertise": str,
        "dev": bool,
        "message_bytes_max": int,
        "snapshot_events": int,
        "price_sources": list,
    }
    types |= dict.fromkeys(("oracle", "holds", "quotas", "orders", "heartbeats", "ledger"), dict)
    types |= {"interruptible_notice_s": int}
    types |= dict.fromkeys(SECURITY_TEXTS, str)
    violations = [
        Violation(f"{path.name} {name}", "is not an option")
        for name in values
        if name not in {field.name for field in fields(ServerOptions)}
    ]
    for name, value in values.items():
        wanted = types.get(name, (int, float))
        if isinstance(value, bool) != (wanted is bool) or not isinstance(value, wanted):
            violations.append(Violation(f"{path.name} {name}", f"has the wrong type {type(value).__name__}"))
    if violations:
        raise InvalidInput(violations)
    for name in PATHS & values.keys():
        values[name] = Path(values[name])
    return _with_tables(values, path.name)


def default_parameters(price_sources: tuple[PriceSource, ...]) -> OracleParameters:
    """Without price sources the built-in list is the only reference: it then has to do alone."""
    return OracleParameters(quorum=3 if price_sources else 1, history_retention_us=HISTORY_KEPT_US)


def _with_tables(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The tables of the file as what they stand for; InvalidInput lists what is wrong in any of them."""
    checks = Checks()
    listed = values.pop("price_sources", [])
    values["price_sources"] = tuple(checks.read(price_source, raw, name) for raw in listed)
    tables: tuple[tuple[str, Any], ...] = (
        ("oracle", default_parameters(values["price_sources"])),
        ("holds", HoldLimits()),
        ("orders", OrderLimits()),
        ("heartbeats", HeartbeatRules()),
        ("quotas", Quotas()),
        ("ledger", LedgerSettings()),
    )
    for table, defaults in tables:
        if table in values:
            values[table] = checks.read(_changed, defaults, values[table], f"{name} {table}")
    checks.done()
    return values


_TYPES: dict[type, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    tuple: (dict,),
    bool: (bool,),
    type(None): (bool,),
}
"""What a setting may be in the file, by the type of its default; only a flag has None."""


def _changed(defaults: Any, raw: dict[str, Any], prefix: str) -> Any:
    known: dict[str, type] = {each.name: type(getattr(defaults, each.name)) for each in fields(defaults)}
    found = [Violation(f"{prefix}.{name}", "is not an option") for name in sorted(raw.keys() - known.keys())]
    for name, value in raw.items():
        wanted = _TYPES.get(known.get(name, object), (object,))
        if isinstance(value, bool) != (wanted == (bool,)) or not isinstance(value, wanted):
            found.append(Violation(f"{prefix}.{name}", f"has the wrong type {type(value).__name__}"))
    if found:
        raise InvalidInput(found)
    try:
        return replace(defaults, **{key: tuple(v.items()) if isinstance(v, dict) else v for key, v in raw.items()})
    except InvalidInput as error:
        raise error.within(f"{prefix}.") from None
