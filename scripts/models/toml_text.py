"""A value as TOML writes it: names in it are a user's, and may hold anything."""

import json


def toml_value(value: str | int | bool | tuple[str, ...]) -> str:
    """Return a value on one line of TOML.

    A JSON string is a TOML one, but for DEL, which only TOML escapes, and pairs of surrogates, which only JSON has.
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
