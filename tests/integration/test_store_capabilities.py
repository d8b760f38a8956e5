"""What destinations take, on SQLite and PostgreSQL."""

from __future__ import annotations

from node.archive.engine import Store
from node.delivery import capabilities

pytest_plugins = ["tests.store_fixtures"]

SEG, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"


def test_a_destination_that_was_never_asked_may_be_tried(store: Store) -> None:
    with store.read() as connection:
        known = capabilities.of(connection, "PACS")
    assert known.asked_at == 0 and known.takes(LABEL_MAP, RLE)


def test_an_answer_replaces_what_was_known(store: Store) -> None:
    with store.write() as connection:
        capabilities.store(connection, 10.0, "PACS", storage={LABEL_MAP: [RLE]})
        capabilities.store(connection, 20.0, "PACS", storage={SEG: [EXPLICIT], LABEL_MAP: []}, charset="utf-8")
        capabilities.store(connection, 30.0, "OTHER", storage={LABEL_MAP: [EXPLICIT]})
        known = capabilities.of(connection, "PACS")
    assert (known.asked_at, known.charset) == (20.0, "utf-8")
    assert known.takes(SEG) and known.takes(SEG, EXPLICIT)
    assert not known.takes(SEG, RLE) and not known.takes(LABEL_MAP) and not known.takes("1.2.3")


def test_a_refusal_is_remembered_until_it_is_asked_again(store: Store) -> None:
    with store.write() as connection:
        assert capabilities.refuse(connection, "PACS", [LABEL_MAP])
        assert not capabilities.refuse(connection, "PACS", [LABEL_MAP])
        known = capabilities.of(connection, "PACS")
        assert not known.takes(LABEL_MAP) and known.takes(SEG)
        capabilities.store(connection, 20.0, "PACS", storage={LABEL_MAP: [EXPLICIT]})
        assert capabilities.of(connection, "PACS").takes(LABEL_MAP)
