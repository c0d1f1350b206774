"""Text is escaped wherever it enters a page; HTML is left as it is."""

from __future__ import annotations

from dvlm.gallery.markup import Html, facts, folded, join, section, table, tag

EVIL = "<b>&\"'"
SAFE = "&lt;b&gt;&amp;&quot;&#x27;"


def test_children_and_attributes_are_escaped():
    assert tag("p", EVIL, class_=EVIL, data_x=None) == f'<p class="{SAFE}">{SAFE}</p>'
    assert tag("p", tag("i", "a"), "b") == "<p><i>a</i>b</p>"
    assert tag("img", alt=EVIL) == f'<img alt="{SAFE}">'


def test_every_piece_escapes():
    pieces = [
        join([EVIL]),
        section(EVIL, EVIL),
        facts([(EVIL, EVIL)]),
        table([EVIL], [[EVIL, EVIL]]),
        folded(EVIL, EVIL),
    ]
    for piece in pieces:
        assert isinstance(piece, Html)
        assert "<b>" not in piece
        assert SAFE in piece
