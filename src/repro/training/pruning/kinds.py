"""The methods by the names that settings give them."""

from repro.pruning import AFP, GReg1, GReg2, GroupLasso, IncReg, LargestL1, Method, OneShot, Random
from repro.training.pruning import Settings
from repro.training.sweep.noise import seeded_generator


def method_of(name: str, groups: int, ratio: float, training: Settings, gentleness: float, key: str) -> Method:
    """The method of one layer; `key` names what the control `random` draws.

    GReg-1 and GReg-2 grow in steps with which they reach IncReg's ceiling T at the end of `training.pruning` updates.

    Raises:
        ValueError: a ratio that would remove the whole layer.
    """
    ceiling, step, budget = training.ceiling(gentleness), training.step(gentleness), training.pruning
    if name == "inc_reg":
        return IncReg(groups, ratio, step, ceiling)
    if name == "greg_1":
        return GReg1(groups, ratio, ceiling / budget, ceiling)
    if name == "greg_2":
        return GReg2(groups, ratio, ceiling / budget, ceiling, ceiling / 10)
    if name == "group_lasso":
        return GroupLasso(groups, ratio, training.lasso, budget)
    if name == "afp":
        return AFP(groups, ratio, training.afp, budget)
    if name == "random":
        return Random(groups, ratio, seeded_generator(f"random groups {key}"))
    return {"one_shot": OneShot, "largest": LargestL1}[name](groups, ratio)
