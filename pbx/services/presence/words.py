"""Published state in a few words, for people who look after the PBX."""

from __future__ import annotations

from pbx.services.presence.pidf import DATA_MODEL, PIDF
from pbx.services.presence.xml import parse
from pbx.sip.errors import SIPError

RPID = f"{PIDF}:rpid"
#: Most characters that are shown.
WIDTH = 60


def in_words(body: bytes) -> str:
    """``open: in a meeting`` for a presence document, the first line of anything else."""
    try:
        root = parse(body, f"{{{PIDF}}}presence")
    except SIPError:
        return body.partition(b"\n")[0].strip().decode("utf-8", "replace")[:WIDTH]
    basics = [basic.text for basic in root.iter(f"{{{PIDF}}}basic")]
    word = "open" if "open" in basics else "closed"
    more = [
        *(note.text or "" for note in root.iter(f"{{{PIDF}}}note")),
        *(note.text or "" for note in root.iter(f"{{{DATA_MODEL}}}note")),
        *(
            str(activity.tag).rpartition("}")[2]
            for activities in root.iter(f"{{{RPID}}}activities")
            for activity in activities
        ),
    ]
    said = next((" ".join(text.split()) for text in more if text.strip()), "")
    return (f"{word}: {said}" if said else word)[:WIDTH]
