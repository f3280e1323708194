"""Ask the crewd of this container how it is: exit 0 if it answers with 200, 1 and a sentence if it does not.

With the standard library alone, so that it costs little. `healthy.py /readyz` asks whether crewd does its whole work.
Where crewd listens stands in daemon.json, whatever the settings say.
"""

import http.client
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT = 3.0  # seconds; less than HEALTHCHECK --timeout
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is asked on the loopback


def main(arguments: list[str]) -> int:
    route = arguments[0] if arguments else "/healthz"
    told = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/crewd")) / "daemon.json"
    try:
        place = urlsplit(json.loads(told.read_bytes())["url"])
        host, port = place.hostname or "", place.port
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{told}: {error}: crewd is not there yet, or its state folder is another one")  # noqa: T201
        return 1
    connection = http.client.HTTPConnection(EVERYWHERE.get(host, host), port, timeout=TIMEOUT)
    try:
        connection.request("GET", route)
        answer = connection.getresponse()
        text = answer.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"{host}:{port}{route}: {error}")  # noqa: T201
        return 1
    print(text)  # noqa: T201
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
