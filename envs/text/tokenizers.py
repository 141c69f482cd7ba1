"""Tokenizers of text tasks: one token per word, per character (and given longer pieces), or per byte.

All have `encode(text) -> list[int]`, `decode(ids) -> str`, `vocab_size` and the ids `pad`, `bos` and `eos`, which are 0, 1
and 2 and which no text encodes to. `decode` ends before the first eos; a pad or bos before it shows as `<pad>` or `<bos>`, so
that a verifier sees that it was written.
"""

import re
from collections.abc import Iterable, Sequence

PAD, BOS, EOS = 0, 1, 2
SPECIAL = ("<pad>", "<bos>", "<eos>")


class Tokenizer:
    """What all tokenizers share: the special ids, and how a sequence of ids ends.

    Args:
        pieces: the texts of the ids 3, 4, ...
    """

    pad, bos, eos = PAD, BOS, EOS

    def __init__(self, pieces: Sequence[str]):
        self.pieces = (*SPECIAL, *pieces)
        self.ids = {piece: i for i, piece in enumerate(self.pieces) if i > EOS}
        if len(self.ids) + len(SPECIAL) != len(self.pieces):
            raise ValueError("pieces must differ from each other, some occur twice")

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without bos and eos.

        Raises:
            ValueError: the text has something that the vocabulary lacks.
        """
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids before the first eos."""
        return self.join([self.pieces[i] for i in before_eos(ids)])

    def join(self, pieces: list[str]) -> str:
        return "".join(pieces)

    def __eq__(self, other):
        return type(self) is type(other) and self.pieces == other.pieces

    def __hash__(self):
        return hash(self.pieces)


class WordTokenizer(Tokenizer):
    """One token per word; words stand between white space, and decoding puts one space between two words."""

    def __init__(self, words: Sequence[str]):
        if bad := [word for word in words if len(word.split()) != 1 or word != word.strip()]:
            raise ValueError(f"words must be texts without white space, got {bad[0]!r}")
        super().__init__(words)

    def encode(self, text: str) -> list[int]:
        try:
            return [self.ids[word] for word in text.split()]
        except KeyError as error:
            raise ValueError(f"the vocabulary has no word {error.args[0]!r}") from None

    def join(self, pieces: list[str]) -> str:
        return " ".join(pieces)


class CharTokenizer(Tokenizer):
    """One token per character; of the given symbols, longer texts with a token of their own, the longest that fits is taken."""

    def __init__(self, characters: str, symbols: Sequence[str] = ()):
        if bad := [symbol for symbol in symbols if len(symbol) < 2]:
            raise ValueError(f"symbols must have at least two characters, got {bad[0]!r}")
        super().__init__((*characters, *symbols))
        longest_first = sorted(self.ids, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))

    def encode(self, text: str) -> list[int]:
        ids = [self.ids[piece] for piece in self.pattern.findall(text)]
        if sum(len(self.pieces[i]) for i in ids) != len(text):
            foreign = next(c for c in self.pattern.sub("", text))
            raise ValueError(f"the vocabulary has no character {foreign!r}")
        return ids


class ByteTokenizer(Tokenizer):
    """One token per byte of UTF-8, for texts of any kind; bytes that are no UTF-8 decode to U+FFFD."""

    def __init__(self):
        super().__init__([f"<{byte:02x}>" for byte in range(256)])

    def encode(self, text: str) -> list[int]:
        return [byte + len(SPECIAL) for byte in text.encode("utf-8", "replace")]

    def decode(self, ids: Iterable[int]) -> str:
        written = [SPECIAL[i].encode() if i < len(SPECIAL) else bytes((i - len(SPECIAL),)) for i in before_eos(ids)]
        return b"".join(written).decode("utf-8", "replace")


def before_eos(ids: Iterable[int]) -> list[int]:
    ids = [int(i) for i in ids]
    return ids[: ids.index(EOS)] if EOS in ids else ids
