import pickle

import pytest

from explore_gym.envs.text.tokenizers import BOS, EOS, PAD, ByteTokenizer, CharTokenizer, WordTokenizer


def test_words():
    tokenizer = WordTokenizer(["a", "bc", "="])
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.vocab_size) == (0, 1, 2, 6)
    assert tokenizer.encode(" bc a\n= a") == [4, 3, 5, 3]
    assert tokenizer.decode([4, 3, 5, 3]) == "bc a = a"
    with pytest.raises(ValueError, match="the vocabulary has no word 'c'"):
        tokenizer.encode("a c")


def test_characters_and_the_longest_symbol():
    tokenizer = CharTokenizer("ab<>", ["<a>", "<a"])
    assert tokenizer.vocab_size == 9
    assert tokenizer.encode("a<a><ab") == [3, 7, 8, 4]
    assert tokenizer.decode(tokenizer.encode("a<a><ab")) == "a<a><ab"
    with pytest.raises(ValueError, match="the vocabulary has no character 'c'"):
        tokenizer.encode("acb")


def test_bytes():
    tokenizer = ByteTokenizer()
    assert tokenizer.vocab_size == 259
    assert tokenizer.encode("é") == [0xC3 + 3, 0xA9 + 3]
    assert tokenizer.decode(tokenizer.encode("naïve ÷\n")) == "naïve ÷\n"
    assert tokenizer.decode([0xC3 + 3, ord("a") + 3]) == "\ufffda"
    assert tokenizer.decode(tokenizer.encode("\ud800")) == "?"


@pytest.mark.parametrize("tokenizer", [WordTokenizer(["a"]), CharTokenizer("a"), ByteTokenizer()])
def test_decoding_ends_at_eos_and_shows_other_special_ids(tokenizer):
    (a,) = tokenizer.encode("a")
    assert tokenizer.decode([a, EOS, a, PAD]) == "a"
    shown = tokenizer.decode([BOS, a, PAD, a]).replace(" ", "")
    assert shown == "<bos>a<pad>a"
    for special in ("<eos>", "<pad>"):
        try:
            assert not {PAD, BOS, EOS} & set(tokenizer.encode(special))
        except ValueError:
            continue
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert tokenizer != WordTokenizer(["b"])


def test_bad_vocabularies_are_named():
    with pytest.raises(ValueError, match="words must be texts without white space, got 'a b'"):
        WordTokenizer(["a b"])
    with pytest.raises(ValueError, match="some occur twice"):
        WordTokenizer(["a", "a"])
    with pytest.raises(ValueError, match="symbols must have at least two characters, got 'a'"):
        CharTokenizer("b", ["a"])
