"""GPT-2's byte pairs as BART and OFA publish them: ``vocab.json`` and ``merges.txt`` to one ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from models.errors import CheckpointMismatch

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def byte_pair_tokenizer(folder: Path, added: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer of a folder; nothing is put before or behind a text.

    Parameters
    ----------
    added : iterable of str
        Tokens behind those of the file, in order; they are not shown in a text.

    Raises
    ------
    CheckpointMismatch
        A file is missing or cannot be read.
    """
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    missing = [path.name for path in (vocabulary, merges) if not path.is_file()]
    if missing:
        raise CheckpointMismatch(
            f"the folder has no {' and no '.join(missing)}; put those of the model's release beside the weights"
        )
    try:
        made = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:
        raise CheckpointMismatch(f"vocab.json and merges.txt cannot be read: {error}") from error
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([token for token in SPECIAL if made.token_to_id(token) is not None])
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    return made
