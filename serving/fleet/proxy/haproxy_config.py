"""HAProxy's configuration: routing of TensorFlow Serving's requests by the model's name.

| part | does |
|---|---|
| frontend ``grpc`` | reads the name in the message (``model_spec.name``, field 1.1 of every request) |
| frontend ``rest`` | reads the name in the path, ``/v1/models/NAME`` |
| backend ``grpc:MODEL``, ``rest:MODEL`` | the servers that hold the model; another one gets a request that fails |
| backend ``servers`` | every server, checked once for all of its models: answers ``grpc.health.v1.Health`` |
| backend ``present:grpc``, ``present:rest`` | the present worker, for requests that waited in one before it |
| frontend ``shadow`` | takes copies of requests on a unix socket |
| frontend ``metrics`` | ``/metrics`` of HAProxy, ``/aliases`` of the agent, ``/healthz`` |

The file has the routes of the moment at which it was written, so that HAProxy starts right whoever started it. Later
changes of servers go through the runtime API; new models need a reload.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dpsr.config.fleet import FleetProxy
from dpsr.serving.fleet.proxy.error_files import error_lines
from dpsr.serving.fleet.proxy.health_check import check_sequence
from dpsr.serving.fleet.proxy.variants import bounds
from dpsr.serving.fleet.state import AliasRoute, Endpoint, Routes

LUA = Path(__file__).parent / "fleet.lua"
BUFFER_BYTES = 262144
"""Of a request: one that fits can be sent to another server when its connection ends without an answer. HAProxy 2.6.12
with 64 KiB ends a server's connection, and all requests on it, when answers of that size come many at a time."""
_HARD_STOP_SECONDS = 600
_MOST_THREADS = 64
"""Of HAProxy; the first one has no connections."""
_HEAD_BYTES = 32
"""Of a message, up to the name of its model at least."""
_DEMAND, _EMPTY, _READY = "demand", "empty", "ready"


def render(proxy: FleetProxy, routes: Routes, run_dir: Path, *, wait_seconds: float, description: str) -> str:
    """The configuration file.

    Args:
        proxy: addresses, times and TLS.
        routes: servers, models and aliases.
        run_dir: directory of sockets, maps and error files.
        wait_seconds: time that a request for an on-demand model waits at most.
        description: by which a worker with this file is known.
    """
    sections = [
        _global(proxy, run_dir, wait_seconds, description),
        _defaults(proxy, wait_seconds),
        _grpc_frontend(proxy, routes, run_dir),
        *([_rest_frontend(proxy, routes, run_dir)] if proxy.rest_port >= 0 else []),
        _shadow_frontend(proxy, run_dir),
        *([_metrics_frontend(proxy, run_dir)] if proxy.metrics_port >= 0 else []),
        _servers_backend(proxy, routes, run_dir),
        _present_backend("grpc", run_dir),
        *([_present_backend("rest", run_dir)] if proxy.rest_port >= 0 else []),
    ]
    for model, endpoints in sorted(routes.models.items()):
        sections.append(_grpc_backend(proxy, routes, model, endpoints, run_dir))
        if proxy.rest_port >= 0:
            sections.append(_rest_backend(proxy, routes, model, endpoints, run_dir))
    return "\n\n".join(sections) + "\n"


def needs_reload(before: Routes, after: Routes) -> bool:
    """Whether a change of the routes is beyond the runtime API: models or servers come or go."""
    return before.servers != after.servers or set(before.models) != set(after.models)


def model_states(routes: Routes) -> dict[str, str]:
    """Content of ``models.map``: model -> ``ready``, ``demand`` (its requests wait for a load) or ``empty``."""

    def state(model: str, endpoints: Iterable[Endpoint]) -> str:
        if any(endpoint.state == "ready" for endpoint in endpoints):
            return _READY
        return _DEMAND if model in routes.on_demand else _EMPTY

    return {model: state(model, endpoints) for model, endpoints in routes.models.items()}


def alias_texts(aliases: Mapping[str, AliasRoute]) -> dict[str, str]:
    """Content of ``aliases.map``, as the Lua script reads it."""
    return {name: _alias_text(alias) for name, alias in aliases.items()}


def _alias_text(alias: AliasRoute) -> str:
    variants = ",".join(f"{model}:{bound}" for model, bound in bounds(alias.variants))
    shadow = ",".join(f"{model}:{round(share * 2**32)}" for model, share in sorted(alias.shadow.items()))
    return "|".join((variants, alias.sticky_header or "-", alias.sticky_input or "-", shadow))


def map_text(values: Mapping[str, str]) -> str:
    """The text of a map file."""
    return "".join(f"{key} {value}\n" for key, value in sorted(values.items()))


def server_options(proxy: FleetProxy, server: str, *, grpc: bool) -> str:
    """Words of a model's server line after its address, for the file and for the runtime API.

    One check of the server decides for all of its models.
    """
    return f"{_connection(proxy, grpc=grpc)} track servers/{server}".lstrip()


def _connection(proxy: FleetProxy, *, grpc: bool) -> str:
    words = []
    if proxy.server_ca:
        words += ["ssl", "verify", "required", "ca-file", proxy.server_ca]
        words += ["crt", proxy.server_certificate] if proxy.server_certificate else []
        words += ["alpn", "h2" if grpc else "http/1.1"]
    elif grpc:
        words += ["proto", "h2"]
    return " ".join(words)


def _threads(proxy: FleetProxy) -> int:
    """Threads that connections are on."""
    return proxy.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS - 1)


def _bound(proxy: FleetProxy) -> str:
    """Words of a listener: its connections are on other threads than the first one.

    The first thread releases what the worker has when it ends. HAProxy 2.6.10 to 2.6.13 end by a segmentation fault
    there if that thread has changed a connection's polling since it last polled, as it has where the worker's last
    requests were on it.
    """
    return f"thread 2-{1 + _threads(proxy)}"


def _global(proxy: FleetProxy, run_dir: Path, wait_seconds: float, description: str) -> str:
    return f"""global
  description {description}
  nbthread {1 + _threads(proxy)}
  hard-stop-after {_HARD_STOP_SECONDS}s
  tune.bufsize {BUFFER_BYTES}
  tune.lua.maxmem 256
  log {run_dir}/log.sock len 4096 format raw local0 info
  setenv DPSR_RUN_DIR {run_dir}
  setenv DPSR_VARIANT_HEADER {proxy.variant_header}
  setenv DPSR_WAIT_SECONDS {wait_seconds:g}
  lua-load-per-thread {LUA}
  stats socket {run_dir}/haproxy.sock mode 600 level admin expose-fd listeners {_bound(proxy)}
  stats timeout 1m"""


def _defaults(proxy: FleetProxy, wait_seconds: float) -> str:
    seconds = proxy.request_seconds
    return f"""defaults
  mode http
  log global
  timeout connect {_ms(proxy.connect_seconds)}
  timeout server {_ms(seconds)}
  timeout client 1h
  timeout http-keep-alive 1h
  timeout http-request {_ms(max(seconds, wait_seconds + 10))}
  timeout queue {_ms(seconds)}
  retries 1
  option redispatch 1
  retry-on conn-failure empty-response
  http-reuse always
  balance random(2)"""


def _ms(seconds: float) -> str:
    return f"{max(round(1000 * seconds), 1)}ms"


def _bind(proxy: FleetProxy, port: int, *, grpc: bool) -> str:
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    words = [f"bind {host}:{port}", _bound(proxy)]
    if proxy.tls_certificate:
        words += ["ssl", "crt", proxy.tls_certificate, "alpn", "h2" if grpc else "h2,http/1.1", "ssl-min-ver TLSv1.2"]
        words += ["ca-file", proxy.tls_client_ca, "verify", "required"] if proxy.tls_client_ca else []
    elif grpc:
        words += ["proto", "h2"]
    return " ".join(words)


def _identity() -> str:
    """The request's id: the client's, or a new one; the server, the client and the log get it."""
    return """  http-request set-var(txn.request_id) req.hdr(x-request-id)
  http-request set-var(txn.request_id) uuid() if !{ var(txn.request_id) -m len ge 1 }
  http-request set-header x-request-id %[var(txn.request_id)]
  http-after-response set-header x-request-id %[var(txn.request_id)]"""


def _routing(proxy: FleetProxy, run_dir: Path) -> str:
    """Rules after the name is in ``txn.model``: aliases, then what becomes of the model."""
    is_alias = f"{{ var(txn.model),map_str({run_dir}/aliases.map) -m found }}"
    return f"""  http-request set-var(txn.alias) var(txn.model) if {is_alias}
  http-request set-var(txn.head) req.body,bytes(0,{_HEAD_BYTES}) if {is_alias}
  http-request lua.choose_variant if {{ var(txn.alias) -m found }}
  http-after-response set-header {proxy.variant_header} %[var(txn.variant)] if {{ var(txn.variant) -m found }}
  http-request set-var(txn.state) var(txn.model),map_str({run_dir}/models.map)
  http-request lua.wake if {{ var(txn.state) -m str {_DEMAND} }} !{{ var(txn.refusal) -m found }}"""


def _log(protocol: str) -> str:
    status = "%ST" if protocol == "rest" else "%[var(txn.status)]"
    members = "".join(
        f'"{name}":"%[var(txn.{name}),json(utf8s)]",'
        for name in ("request_id", "alias", "model", "variant", "key", "forced", "shadow")
    )
    return (
        f'  log-format \'{{"time":%Ts.%ms,{members}"protocol":"{protocol}","server":"%s","status":"{status}",'
        '"ms":%Ta,"bytes":%B,"retries":"%rc","end":"%ts"}\''
    )


def _grpc_frontend(proxy: FleetProxy, routes: Routes, run_dir: Path) -> str:
    def refuse(code: int, text: str, condition: str) -> str:
        return f'  http-request return status 200 hdr grpc-status {code} hdr grpc-message "{text}" if {condition}'

    unknown = "!{ var(txn.state) -m found }"
    compressed = "the message is compressed, and a proxy cannot read the model in it; send it without compression"
    return "\n".join(
        (
            "frontend grpc",
            f"  {_bind(proxy, proxy.port, grpc=True)}",
            f"  bind unix@{run_dir}/present_grpc.sock mode 600 name present proto h2 {_bound(proxy)}",
            "  option http-buffer-request",
            _log("grpc"),
            "  filter lua.rewrite",
            _identity(),
            "  http-after-response set-var(txn.status) res.hdr(grpc-status)",
            "  http-after-response set-header content-type application/grpc unless { res.hdr(content-type) -m found }",
            "  http-request set-var(txn.protocol) str(grpc)",
            "  acl health path_beg /grpc.health.v1.Health/",
            "  http-request set-var(txn.flag) req.body,bytes(0,1),hex",
            refuse(12, compressed, "!health { var(txn.flag) -m str 01 }"),
            "  http-request set-var(txn.model) req.body,bytes(5),protobuf(1.1)",
            "  http-request lua.find_model if !health !{ var(txn.model) -m len ge 1 }",
            refuse(3, "Missing ModelSpec", "!health !{ var(txn.model) -m len ge 1 }"),
            *([] if routes.generation else [refuse(14, "the fleet has no routes yet; try again", "!health")]),
            _routing(proxy, run_dir),
            "  http-request return status 200 hdr grpc-status %[var(txn.code)] "
            "hdr retry-after 1 hdr grpc-message %[var(txn.refusal),url_enc] if { var(txn.refusal) -m found }",
            refuse(5, "Servable not found for request: Latest(%[var(txn.model),url_enc])", f"!health {unknown}"),
            refuse(
                14,
                "no server holds model %[var(txn.model),url_enc] at the moment; try again",
                f"{{ var(txn.state) -m str {_EMPTY} }}",
            ),
            _to_present("grpc"),
            "  use_backend servers if health",
            "  use_backend grpc:%[var(txn.model)]",
        )
    )


def _rest_frontend(proxy: FleetProxy, routes: Routes, run_dir: Path) -> str:
    def refuse(status: int, text: str, condition: str) -> str:
        body = '{"error": "' + text + '"}'
        return f"  http-request return status {status} content-type application/json lf-string '{body}' if {condition}"

    named = "{ path_beg /v1/models/ }"
    refused = "{ var(txn.refusal) -m found }"
    return "\n".join(
        (
            "frontend rest",
            f"  {_bind(proxy, proxy.rest_port, grpc=False)}",
            f"  bind unix@{run_dir}/present_rest.sock mode 600 name present {_bound(proxy)}",
            "  option http-buffer-request",
            _log("rest"),
            _identity(),
            "  http-request set-var(txn.protocol) str(rest)",
            refuse(404, "expected /v1/models/NAME", f"!{named}"),
            "  http-request set-var(txn.model) path,field(4,/),field(1,:)",
            "  http-request set-var(txn.rest) path,regsub(^/v1/models/[^/:]*,)",
            *([] if routes.generation else [refuse(503, "the fleet has no routes yet; try again", "{ always_true }")]),
            _routing(proxy, run_dir),
            refuse(400, "%[var(txn.refusal),json(utf8s)]", f"{refused} {{ var(txn.code) -m str 3 }}"),
            "  http-request return status 503 content-type application/json hdr retry-after 1 lf-string "
            f'\'{{"error": "%[var(txn.refusal),json(utf8s)]"}}\' if {refused}',
            refuse(
                404,
                "Servable not found for request: Latest(%[var(txn.model),json(utf8s)])",
                "!{ var(txn.state) -m found }",
            ),
            refuse(
                503,
                "no server holds model %[var(txn.model),json(utf8s)] at the moment; try again",
                f"{{ var(txn.state) -m str {_EMPTY} }}",
            ),
            "  http-request set-path /v1/models/%[var(txn.model)]%[var(txn.rest)] if { var(txn.alias) -m found }",
            _to_present("rest"),
            "  use_backend rest:%[var(txn.model)]",
        )
    )


def _shadow_frontend(proxy: FleetProxy, run_dir: Path) -> str:
    return "\n".join(
        (
            "frontend shadow",
            f"  bind unix@{run_dir}/shadow.sock mode 600 {_bound(proxy)}",
            "  option http-buffer-request",
            _log("shadow"),
            "  filter lua.rewrite",
            "  http-request set-var(txn.rewrite_to) req.hdr(x-dpsr-shadow)",
            "  http-request set-var(txn.model) var(txn.rewrite_to)",
            "  http-after-response set-var(txn.status) res.hdr(grpc-status)",
            "  http-request del-header x-dpsr-shadow",
            "  http-request del-header content-length",
            f"  http-request deny unless {{ var(txn.rewrite_to),map_str({run_dir}/models.map) -m str {_READY} }}",
            "  use_backend grpc:%[var(txn.rewrite_to)]",
        )
    )


def _metrics_frontend(proxy: FleetProxy, run_dir: Path) -> str:
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"""frontend metrics
  bind {host}:{proxy.metrics_port} {_bound(proxy)}
  no log
  monitor-uri /healthz
  http-request use-service prometheus-exporter if {{ path /metrics }}
  http-request deny deny_status 404 unless {{ path /aliases }}
  use_backend agent

backend agent
  server agent unix@{run_dir}/metrics.sock"""


def _servers_backend(proxy: FleetProxy, routes: Routes, run_dir: Path) -> str:
    lines = [
        "backend servers",
        "  timeout check 5s",
        check_sequence(tls=bool(proxy.server_ca)),
        *error_lines("grpc", run_dir),
    ]
    # A process that ended refuses the connection: out after 2 s. One that is slow, as during a load, has 5 s for each
    # of three checks.
    options = f"{_connection(proxy, grpc=True)} check inter 1s fastinter 300ms downinter 1s fall 3 rise 1"
    options += " check-ssl check-alpn h2" if proxy.server_ca else ""
    lines += [f"  server {name} {address.grpc} {options}" for name, address in sorted(routes.servers.items())]
    return "\n".join(lines)


def _to_present(protocol: str) -> str:
    """The rule for a request that waited while HAProxy reloaded: its worker has no server of the model."""
    return (
        f"  http-request set-var-fmt(txn.backend) {protocol}:%[var(txn.model)]\n"
        f"  use_backend present:{protocol} if {{ var(txn.state) -m str {_DEMAND} }} "
        "{ var(txn.backend),nbsrv -m int eq 0 } !{ so_name -m str present }"
    )


def _present_backend(protocol: str, run_dir: Path) -> str:
    http2 = " proto h2" if protocol == "grpc" else ""
    server = f"  server present unix@{run_dir}/present_{protocol}.sock{http2}"
    # Requests are few, and a reload may have replaced the worker at the other end of an idle connection.
    lines = (f"backend present:{protocol}", "  http-reuse never", *error_lines(protocol, run_dir), server)
    return "\n".join(lines)


def _grpc_backend(proxy: FleetProxy, routes: Routes, model: str, endpoints: Iterable[Endpoint], run_dir: Path) -> str:
    lines = [f"backend grpc:{model}", *error_lines("grpc", run_dir)]
    lines += [_server_line(proxy, end, routes.servers[end.server].grpc, grpc=True) for end in endpoints]
    return "\n".join(lines)


def _rest_backend(proxy: FleetProxy, routes: Routes, model: str, endpoints: Iterable[Endpoint], run_dir: Path) -> str:
    # The first request of a client's connection gets a new connection to the server: where an idle one turns out to be
    # dead and the retry fails as well, HAProxy closes the client's connection without an answer.
    lines = [f"backend rest:{model}", "  http-reuse safe", *error_lines("rest", run_dir)]
    for end in endpoints:
        if rest := routes.servers[end.server].rest:
            lines.append(_server_line(proxy, end, rest, grpc=False))
    return "\n".join(lines)


def _server_line(proxy: FleetProxy, end: Endpoint, address: str, *, grpc: bool) -> str:
    weight = " weight 0" if end.state == "drain" else ""
    return f"  server {end.server} {address} {server_options(proxy, end.server, grpc=grpc)}{weight}"
