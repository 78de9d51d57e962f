#!/usr/bin/env python3
"""Writes nn/data/subword/unicode_tables.cpp: what is a letter, number, mark, ... to HuggingFace's tokenisers.

Their crates follow Unicode 8 to 17, each its own version, so the package itself is asked, one code point at a time:
    python3 -m venv build/venv && build/venv/bin/pip install tokenizers==0.23.3
    build/venv/bin/python scripts/unicode_tables.py > nn/data/subword/unicode_tables.cpp
"""
import textwrap

import tokenizers
from tokenizers import normalizers, pre_tokenizers


def bert(**on):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **on})


CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by rule


def ranges(holds):
    out = []
    for c in CODE_POINTS:
        if holds(chr(c)):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def steps(pairs):
    """(first, last, step, difference) of runs of pairs with one difference and one step."""
    out = []
    for c, to in pairs:
        if out:
            first, last, step, difference = out[-1]
            if to - c == difference and (step == c - last or (first == last and c - last <= 2)):
                out[-1] = (first, c, c - last, difference)
                continue
        out.append((c, c, 1, to - c))
    return out


def table(doc, name, kind, rows):
    cells = ", ".join("{" + ", ".join(hex(x) if x >= 0 else str(x) for x in row) + "}" for row in rows)
    body = textwrap.fill(cells, 116, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    print(f"// {doc}\nconstexpr {kind} {name}_rows[] = {{\n{body}}};")
    print(f"constinit const std::span<const {kind}> {name} = {name}_rows;\n")


def main():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bert_split = pre_tokenizers.BertPreTokenizer()
    clean, cjk, lower = bert(clean_text=True), bert(handle_chinese_chars=True), bert(lowercase=True)
    strip = bert(strip_accents=True)

    def joins(before):  # one piece of GPT-2's splitting rule with this character before it
        return lambda s: len(byte_level.pre_tokenize_str(before + s)) == 1

    def pieces(s):
        return [piece for piece, _ in bert_split.pre_tokenize_str("a" + s + "a")]

    lowered = [(c, lower.normalize_str(chr(c))) for c in CODE_POINTS]
    bare = [(c, strip.normalize_str(chr(c))) for c in CODE_POINTS if c not in HANGUL]
    print(f"// Made by scripts/unicode_tables.py, which asked the Python package tokenizers {tokenizers.__version__}.")
    print("// clang-format off")
    print('#include "whence/nn/data/subword/unicode.h"\n\nnamespace whence::unicode {\n')
    table("\\p{L} of GPT-2's splitting rule", "letters", "Range", ranges(joins("a")))
    table("\\p{N} of the same", "numbers", "Range", ranges(joins("1")))
    table("blanks of BERT's pre-tokeniser and of the splitting rule", "blanks", "Range",
          ranges(lambda s: pieces(s) == ["a", "a"]))
    table("punctuation of BERT's pre-tokeniser", "punctuation", "Range",
          ranges(lambda s: pieces(s) == ["a", s, "a"]))
    table("what clean_text drops", "control", "Range", ranges(lambda s: clean.normalize_str(s) == ""))
    table("what handle_chinese_chars puts blanks around", "ideographs", "Range",
          ranges(lambda s: cjk.normalize_str(s) != s))
    table("marks that strip_accents drops", "marks", "Range", ranges(lambda s: strip.normalize_str(s) == ""))
    table("lower case: first, last, step, difference", "lower", "Step",
          steps([(c, ord(s)) for c, s in lowered if len(s) == 1 and s != chr(c)]))
    table("lower case of two characters", "lower_pairs", "Decomposition",
          [[c, *map(ord, s)] for c, s in lowered if len(s) > 1])
    table("canonical decomposition without its marks", "bare", "Decomposition",
          [[c, *map(ord, s)] for c, s in bare if s not in ("", chr(c))])
    print("}  // namespace whence::unicode")


main()
