"""Formulas as MathML: of LaTeX, and of what texts write in plain characters, as in ‖U_iV_iᵀX‖ or λ‖A‖²_(r)."""

import re
import unicodedata
from functools import cache

from latex2mathml.converter import convert
from markupsafe import Markup, escape

_SIGNS = {
    "‖": r"\|", "⟨": r"\langle ", "⟩": r"\rangle ", "Σ": r"\sum ", "Π": r"\prod ", "∫": r"\int ", "√": r"\surd ",
    "∂": r"\partial ", "∇": r"\nabla ", "½": r"\tfrac{1}{2}", "¼": r"\tfrac{1}{4}", "∘": r"\circ ", "·": r"\cdot ",
    "×": r"\times ", "−": "-", "±": r"\pm ", "≤": r"\le ", "≥": r"\ge ", "≈": r"\approx ", "∼": r"\sim ", "→": r"\to ",
    "⋯": r"\cdots ", "…": r"\ldots ", "↑": r"\uparrow ", "↓": r"\downarrow ", "∈": r"\in ",
    "∞": r"\infty ", "≠": r"\ne ",
}  # fmt: skip
_ABOVE = {"ᵀ": r"\top ", "²": "2", "³": "3", "⁰": "0", "¹": "1", "⁺": "+", "⁻": "-"}
_HATS = {"\u0302": "hat", "\u0304": "bar", "\u0303": "tilde"}
_WORDS = ("log", "det", "tr", "min", "max", "argmin", "exp", "diag", "rank", "Cov", "Var", "ceil")
_STRONG = set("‖⟨⟩ΣΠ∫√∂∇½∘ᵀ²³⁻⁺=≤≥≈∼<>_↑↓±−∈ᾱ") | {chr(code) for code in range(0x3B1, 0x3CA)}
_OPERATORS = set("=≤≥≈∼<>+−±·×/→∈≠∘")
LINE = 8  # characters that a piece of a formula has at least before a line may break


@cache
def display(latex: str) -> Markup:
    """A formula of its own, from LaTeX."""
    return Markup(convert(latex, display="block"))


@cache
def inline(text: str) -> Markup:
    """Text for a page: formulas set, what stands in backticks as code; words and names like block_size stay."""
    tokens = text.split()
    kinds = [_kind(token) for token in tokens]
    out: list[str] = []
    n = 0
    while n < len(tokens):
        end = _end(tokens, kinds, n)
        found = _set(" ".join(tokens[n:end])) if end > n else None
        out.append(str(escape(tokens[n])) if found is None else found)
        n = n + 1 if found is None else end
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", " ".join(out)))


def _kind(token: str) -> str:
    """`strong`: part of a formula; `weak`: part of one beside such; `word`."""
    if "`" in token or re.search(r"[A-Za-z]{2,}_[A-Za-z]{2,}|%|\d,\d", token):
        return "word"
    body = re.sub("|".join(rf"(?<![A-Za-z]){word}(?![a-z])" for word in _WORDS), "", token)
    bare = re.sub(r"\{[^}]*\}|_[a-z]{1,2}(?![a-z])", "", body)  # without subscripts
    strong = set(unicodedata.normalize("NFC", body)) & _STRONG
    if re.search(r"[a-z]{2,}" if strong else r"[a-z]{2,}|[A-Z][a-z]", bare):
        return "word"
    signs = unicodedata.normalize("NFD", body)
    known = all(c.isascii() or c in _SIGNS or c in _ABOVE or c in _HATS or _letter(c) for c in signs)
    if not known or re.search(r"[\"'!?&#$@]", body):
        return "word"
    if strong:
        return "strong"
    if re.search(r"[A-Za-z]{2,}", body):
        return "word"
    return "weak" if body.strip(".,;:()") or token in _WORDS else "word"


def _end(tokens: list[str], kinds: list[str], start: int) -> int:
    """Where the formula that begins at `start` ends; `start` where none does."""
    if (
        kinds[start] == "word"
        or set(tokens[start]) <= _OPERATORS
        or (
            kinds[start] == "weak"
            and tokens[start].rstrip(".,;:") in ("a", "A", "I")
            and not (start + 1 < len(tokens) and set(tokens[start + 1]) <= _OPERATORS)
        )
    ):
        return start  # fmt: skip
    end = start
    while end < len(tokens) and kinds[end] != "word":
        end += 1
        if re.search(r"[.,;:]$", tokens[end - 1]) and _closed(" ".join(tokens[start:end])):
            break
    while end > start and kinds[end - 1] == "weak" and not _follows(tokens, end - 1):
        end -= 1
    return end if "strong" in kinds[start:end] else start


def _follows(tokens: list[str], n: int) -> bool:
    """Whether what stands before token n is an operator, or it is an operand that stands by itself."""
    return n > 0 and (set(tokens[n - 1]) <= _OPERATORS or tokens[n - 1] in _WORDS)


def _set(text: str) -> str | None:
    """A formula as MathML, with the punctuation around it as text; None where its brackets do not match."""
    tail = re.search(r"[.,;:]*$", text)[0]  # type: ignore[index]
    body = text[: len(text) - len(tail)]
    head = ""
    while body.count("(") != body.count(")"):
        if body.startswith("(") and body.count("(") > body.count(")"):
            head, body = head + "(", body[1:]
        elif body.endswith(")") and body.count(")") > body.count("("):
            tail, body = ")" + tail, body[:-1]
        else:
            return None
    if not body or body[-1] in _OPERATORS or body.count("‖") % 2:
        return None
    pieces = [convert(_latex(piece)) for piece in _pieces(body)]
    # an operator at the beginning of a line stands between two things all the same
    pieces[1:] = [piece.replace("<mo>", '<mo form="infix">', 1) for piece in pieces[1:]]
    return f"{escape(head)}{' '.join(pieces)}{escape(tail)}"


def _closed(text: str) -> bool:
    """Whether every bracket and norm that is opened is closed."""
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "⟨⟩")) and text.count("‖") % 2 == 0


def _pieces(body: str) -> list[str]:
    """A formula in pieces between which a line may break: before operators outside of brackets."""
    pieces = [""]
    for token in body.split(" "):
        if token in ("=", "+", "−", "≤", "≥") and len(pieces[-1]) > LINE and _closed(pieces[-1]):
            pieces.append("")
        pieces[-1] += f" {token}"
    return [piece.strip() for piece in pieces]


def _latex(text: str) -> str:
    text = re.sub(r"(?<![\d.])1e(-?\d+)", r"10^{\1}", text)
    text = re.sub(r"_\(([^)]*)\)", r"_{(\1)}", text)
    text = re.sub(r"_([a-z]{2})(?![a-z])", r"_{\1}", text)
    text = re.sub(r"‖([²³])_(\{[^}]*\}|\*|\w)", lambda m: f"‖^{{{_ABOVE[m[1]]}}}_{m[2]}", text)
    text = re.sub(rf"(?<![A-Za-z])({'|'.join(_WORDS)})(?![a-z])", r"\\operatorname{\1}", text)
    text = re.sub(f"[{''.join(_ABOVE)}]+", lambda m: "^{" + "".join(_ABOVE[c] for c in m[0]) + "}", text)
    out = ""
    for character in unicodedata.normalize("NFD", text):
        if character in _HATS:
            out = re.sub(r"(\\\w+ |\w)$", rf"\\{_HATS[character]}{{\g<0>}}", out)
        else:
            out += _SIGNS.get(character) or _letter(character) or character
    return re.sub(r"\^\{([^}]*)\}\^", r"^{\1}", out)


def _letter(character: str) -> str:
    """LaTeX's name of a Greek letter; empty for any other sign."""
    name = unicodedata.name(character, "")
    if not name.startswith("GREEK ") or "LETTER" not in name or " WITH " in name:
        return ""
    word = name.rpartition(" ")[2].lower().replace("lamda", "lambda")
    return f"\\{word.capitalize() if 'CAPITAL' in name else word} "
