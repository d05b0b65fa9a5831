"""The methods by the names that settings give them."""

from repro.training.adaptive.methods import AdaProx, AdaptiveDropout, AdaTikhonov, EtaTrick, LogSum, Plain
from repro.training.adaptive.variational import VarDrop, VarDropLR, VarDropLRAR

METHODS: dict[str, type[Plain]] = {
    "plain": Plain,
    "log_sum": LogSum,
    "ada_tikhonov": AdaTikhonov,
    "ada_prox": AdaProx,
    "eta_trick": EtaTrick,
    "dropout": AdaptiveDropout,
    "var_drop": VarDrop,
    "var_drop_lr": VarDropLR,
    "var_drop_lr_ar": VarDropLRAR,
}
