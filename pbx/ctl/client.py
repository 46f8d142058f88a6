"""One question to a running PBX over its Unix socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: What a PBX without the part answers.
METHOD_NOT_FOUND = -32601


class NotRunning(Exception):
    """Nobody answers at the socket."""


class Refused(Exception):
    """The PBX answered with an error."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(f"{message} ({data})" if data else message)
        self.code = code


def call(
    path: Path,
    method: str,
    params: Mapping[str, object] | Sequence[object] = (),
    timeout: float = 30.0,
) -> Any:
    """The result of a command. Raises NotRunning or Refused."""
    sent = params if isinstance(params, Mapping) else list(params)
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": sent}
    # The kernel takes paths of 107 bytes.
    name = min(str(path), os.path.relpath(path), key=len)
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(name)
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(1 << 16):
                answer += chunk
    except TimeoutError:
        raise NotRunning(f"no answer at {name} within {timeout:g} seconds") from None
    except PermissionError:
        raise NotRunning(f"no permission for {name}: be the user that runs the PBX") from None
    except FileNotFoundError:
        raise NotRunning(
            f"the PBX is not running: no answer at {name}; -c FILE names another PBX"
        ) from None
    except OSError:
        raise NotRunning(f"the PBX is not running: no answer at {name}") from None
    try:
        found = json.loads(answer)
    except ValueError:
        raise NotRunning(f"what answers at {name} is no PBX, or it stopped just now") from None
    if error := found.get("error"):
        raise Refused(error["code"], error["message"], error.get("data", ""))
    return found["result"]
