"""A paper as its folder says of it: what its `__init__` calls PAPER."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What a reader who has a minute wants to know of a paper.

    Attributes:
        title: the paper's.
        reference: authors, where and when it appeared.
        finding: what it says, in one plain sentence.
        formula: the one that all turns around, in LaTeX.
        picture: the figure that shows it, as `experiment/figure`.
    """

    title: str
    reference: str
    finding: str
    formula: str
    picture: str
