"""A tokenizer and a task for tests of language models."""

PAD, BOS, EOS = 0, 1, 2


class Letters:
    """One token per letter a to p."""

    vocab_size, pad, bos, eos = 19, PAD, BOS, EOS

    def encode(self, text):
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode(self, ids):
        return "".join(chr(i - 3 + ord("a")) if i > EOS else "?" for i in ids)


class Successor:
    """Answer two letters with the next ones: "cf" -> "dg"; with probability `wrong` the demonstration is "aa"."""

    def __init__(self, wrong=0.0):
        self.wrong = wrong

    def prompt(self, index):
        return chr(ord("a") + index % 15) + chr(ord("a") + index // 15 % 15)

    def answer(self, index):
        return "".join(chr(ord(letter) + 1) for letter in self.prompt(index))

    def demonstrate(self, index, rng):
        return "aa" if rng.random() < self.wrong else self.answer(index)

    def verify(self, index, response):
        return float(response == self.answer(index))
