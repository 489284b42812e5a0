# SPDX-License-Identifier: Apache-2.0
"""The interface in OpenAPI 3.1, for generators and for people with tools; docs/api.md says it in words."""

from __future__ import annotations

from typing import Any

from fullnat import __version__

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_BOOLEAN: Schema = {"type": "boolean"}
_STRINGS: Schema = {"type": "array", "items": _STRING}

_COUNTS = ("active", "inactive", "connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
_TRAFFIC = dict.fromkeys(_COUNTS, _INTEGER)


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


_ADMIN = _one_of("enabled", "drain", "disabled")

SCHEMAS: dict[str, Schema] = {
    "Error": _object(error=_STRING),
    "Status": _object(
        version=_STRING,
        instance=_STRING,
        pid=_INTEGER,
        engine=_one_of("ebpf", "native", "python", "kernel"),
        why=_STRING,
        queue=_INTEGER,
        workers=_INTEGER,
        uptime=_NUMBER,
        started=_NUMBER,
        config=_STRING,
        services=_STRINGS,
        by_ipvs=_STRINGS,
        local_addresses=_STRINGS,
        local_ports=_STRING,
        fallback=_STRING,
        flows=_INTEGER,
        reload=_object(successes=_INTEGER, failures=_INTEGER, last=_or_null(_NUMBER), error=_STRING),
    ),
    "Pool": _object(
        name=_STRING, servers=_INTEGER, usable_weight=_INTEGER, quorum=_INTEGER, has_quorum=_BOOLEAN
    ),
    "Service": _object(
        name=_STRING,
        protocol=_one_of("tcp", "udp", "fwmark"),
        listen=_STRING,
        address=_STRING,
        scheduler=_STRING,
        scheduler_flags=_STRINGS,
        persistence=_or_null(_object(timeout=_NUMBER, mask=_INTEGER)),
        one_packet=_BOOLEAN,
        forward=_one_of("fullnat", "nat", "dr", "tun"),
        serving=_STRING,
        pools={"type": "array", "items": {"$ref": "#/components/schemas/Pool"}},
        servers=_INTEGER,
        available=_INTEGER,
        **_TRAFFIC,
    ),
    "Check": _object(
        type=_STRING,
        code=_STRING,
        detail=_STRING,
        duration=_NUMBER,
        since=_NUMBER,
        checks=_INTEGER,
        failures=_INTEGER,
        transitions=_INTEGER,
        checking=_BOOLEAN,
        suspended=_BOOLEAN,
    ),
    "Drain": _object(by=_one_of("command", "file"), since=_NUMBER, deadline=_or_null(_NUMBER), left=_INTEGER),
    "Server": _object(
        service=_STRING,
        pool=_STRING,
        address=_STRING,
        weight=_INTEGER,
        effective_weight=_INTEGER,
        upper=_INTEGER,
        lower=_INTEGER,
        overloaded=_BOOLEAN,
        admin=_ADMIN,
        health=_one_of("up", "down", "unknown"),
        in_rotation=_BOOLEAN,
        check=_or_null({"$ref": "#/components/schemas/Check"}),
        drain=_or_null({"$ref": "#/components/schemas/Drain"}),
        **_TRAFFIC,
    ),
    "Flow": _object(
        service=_STRING,
        protocol=_one_of("tcp", "udp"),
        client=_STRING,
        virtual=_STRING,
        local=_STRING,
        server=_STRING,
        state=_STRING,
        age=_NUMBER,
        idle=_NUMBER,
        expires=_NUMBER,
        packets_in=_INTEGER,
        packets_out=_INTEGER,
        bytes_in=_INTEGER,
        bytes_out=_INTEGER,
    ),
    "Ports": _object(
        protocol=_STRING,
        local=_STRING,
        server=_STRING,
        in_use=_INTEGER,
        resting=_INTEGER,
        capacity=_INTEGER,
    ),
    "Template": _object(service=_STRING, clients=_STRING, server=_STRING, flows=_INTEGER, expires=_NUMBER),
    "Stats": {"type": "object"},
    "Event": {
        **_object(sequence=_INTEGER, time=_NUMBER, event=_STRING, kind=_STRING),
        "additionalProperties": True,
    },
    "Wanted": {
        "type": "object",
        "properties": {
            "admin": _ADMIN,
            "weight": {"type": "integer", "minimum": 0, "maximum": 65535},
            "deadline": {"type": "number", "minimum": 0},
        },
        "additionalProperties": False,
        "minProperties": 1,
    },
    "Ended": _object(ended=_INTEGER),
    "Changes": _object(changes=_STRINGS, applied=_BOOLEAN),
    "Stopping": _object(stopping=_BOOLEAN),
    "Command": {
        "type": "object",
        "properties": {"arguments": _STRINGS, "input": _STRING},
        "required": ["arguments"],
    },
    "Done": _object(output=_STRING, errors=_STRING, status=_INTEGER),
}

_LISTS = {
    "services": ("Service", "the services, in configured order"),
    "servers": ("Server", "every server of every service"),
    "flows": ("Flow", "flows, at most `limit` of them"),
    "ports": ("Ports", "local ports, by local address and server"),
    "persistence": ("Template", "client prefixes that stay on a server"),
    "events": ("Event", "events after number `since`; with `follow` a stream of those to come"),
}
_OBJECTS = {
    "status": ("Status", "what runs"),
    "stats": ("Stats", "how packets ended, and how full tables are"),
}
_SERVER_PATH = "/v1/services/{service}/servers/{server}"


def describe() -> Schema:
    """Return the description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "fullnat", "version": __version__, "summary": "A running instance of fullnat"},
        "servers": [{"url": "http://fullnat/", "description": "on the instance's unix socket"}],
        "paths": {**_gets(), **_posts()},
        "components": {"schemas": SCHEMAS},
    }


def _gets() -> Schema:
    found: Schema = {}
    for name, (schema, summary) in _LISTS.items():
        content = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
        found[f"/v1/{name}"] = {"get": _operation(summary, _json(content), _queries(name))}
    for name, (schema, summary) in _OBJECTS.items():
        found[f"/v1/{name}"] = {"get": _operation(summary, _json(_ref(schema)))}
    found["/v1/openapi.json"] = {"get": _operation("this description", _json({"type": "object"}))}
    found["/metrics"] = {"get": _operation("everything that is counted", {"text/plain": {"schema": _STRING}})}
    return found


def _posts() -> Schema:
    place = [_parameter(name, "path", _STRING) for name in ("service", "server")]
    leave = _parameter("leave", "query", _one_of("nothing", "flows", "service"))
    trial = _parameter("dry_run", "query", _one_of("0", "1"))
    return {
        _SERVER_PATH: {
            "post": _operation("change a server's state or weight", _json(_ref("Server")), place, "Wanted")
        },
        f"{_SERVER_PATH}/reset": {"post": _operation("end a server's flows", _json(_ref("Ended")), place)},
        "/v1/reload": {"post": _operation("read the configuration again", _json(_ref("Changes")), [trial])},
        "/v1/stop": {"post": _operation("end the instance", _json(_ref("Stopping")), [leave])},
        "/v1/ipvsadm": {"post": _operation("a command of ipvsadm(8)", _json(_ref("Done")), (), "Command")},
    }


def _queries(name: str) -> list[Schema]:
    known = {"flows": ("limit",), "events": ("since", "follow")}
    return [_parameter(query, "query", _INTEGER) for query in known.get(name, ())]


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _ref(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(
    summary: str, content: Schema, parameters: list[Schema] | tuple[Schema, ...] = (), body: str | None = None
) -> Schema:
    operation: Schema = {
        "summary": summary,
        "responses": {
            "200": {"description": "done", "content": content},
            "default": {"description": "it is not done: one line says why", "content": _json(_ref("Error"))},
        },
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(_ref(body))}
    return operation
