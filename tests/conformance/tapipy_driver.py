"""Runs the real tapipy for the tests: one JSON command per line in, one JSON answer per line out.

It is run by the Python of an environment that has tapipy and nothing of this project.
"""

import json
import sys

import tapipy.errors
from tapipy.tapis import Tapis


def plain(value):
    """What tapipy made of an answer, as JSON can carry it."""
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "__dict__"):
        return {name: plain(item) for name, item in vars(value).items()}
    return value


def main():
    """Answer commands until there are no more: ``{"new": {...}}``, then ``{"call": "getJob", "with": {...}}``."""
    tapis = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "new" in command:
                tapis = Tapis(**command["new"])
                if "password" in command["new"]:
                    tapis.get_tokens()
                answer = {"result": None}
            elif "token" in command:
                tapis.access_token = command["token"]
                answer = {"result": None}
            else:
                answer = {"result": plain(getattr(tapis.jobs, command["call"])(**command["with"]))}
        except tapipy.errors.BaseTapyException as error:
            response = getattr(error, "response", None)
            answer = {
                "error": type(error).__name__,
                "message": str(error.message),
                "status": response.status_code if response is not None else None,
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
