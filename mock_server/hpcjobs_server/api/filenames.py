"""The part of an address that is the name of a job's file: everything to the end, line breaks too."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor


class _FileName(Convertor[str]):
    # the usual one, ``path``, ends at a line break, which a file may have in its name
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


FILENAME = "filename"
"""The name of the convertor: ``/files/{path:filename}``."""

register_url_convertor(FILENAME, _FileName())
