"""What is claimed of deep networks with dropout on their last hidden layer."""

from repro.papers.expectation import SUSPICIOUS, stochastic_claim
from repro.papers.structured_dropout.last_layer_dropout.measures import (
    BLUNT,
    COLLAPSED,
    DISTINCT,
    ORIGIN,
    bare_fit,
    collapse_order,
    dead,
    error,
    forward,
    nearness,
    of_cells,
    ordering,
)
from repro.papers.structured_dropout.last_layer_dropout.rivals import NORMS, PRECISION, RIVALS
from repro.pipeline.claims import Claim, Plain

TRAINED = ("cpu", "gpu")


def _warmed_up(config: Plain) -> bool:
    """Whether a configuration's networks have been trained to the end with a warm-up of the penalty."""
    return config["training"]["penalty_warmup"] is not None


STUCK = (
    "Training does not move units between classes once these are learned: small classes keep units that larger ones "
    "would use better, most where few blocks, or units of features that are not negative, can only be had whole. One "
    "mask a sample adds noise that more epochs lower slowly."
)
OFF = (
    f"a network may be off by {PRECISION:g} of ‖a‖, a third of the least distance of a weight 10 % off; pooled ReLU "
    "features, each of which serves one class, by what whole units cost the coarsest network of the record besides "
    "(theory.apportioned_spectrum), computed before training"
)

CLAIMS = (
    stochastic_claim(
        "stochastic_is_deterministic",
        "On the last hidden layer's features all along training, the expected loss is the data fit plus "
        "(1−θ)/θ Σ‖U_i g_i(X)‖².",
        "theorem on the last layer of deep networks, E6; paper section 4",
        resolution=0.02,
        what="epoch",
    ),
    Claim(
        id="masks_in_the_forward_pass",
        statement="Masks multiplied into each image's features, one mask an image, cost what the same formula says.",
        source="theorem on the last layer of deep networks, E6; paper section 4",
        quantity="largest distance of the mean loss of whole passes over the training images from the deterministic "
        "objective of the trained network, in standard errors",
        high=SUSPICIOUS,
        because="sampling error alone: no moment of masks or features enters, as it does in training and measuring; "
        f"a standard error above {100 * BLUNT:g} % of the objective counts as failed",
        measure=forward,
        figure="objective",
    ),
    Claim(
        id="predictions_follow_closed_form",
        statement="The singular values of a deep network's predictions are those of the closed form applied to Y.",
        source="E6; paper section 4",
        quantity="largest ‖σ(Ug(X)) − a‖ / ‖a‖, over three times what a network may be off",
        high=1.0,
        because=f"{OFF}; at three times that it is half as far from a rival at the same distance, and decides nothing",
        bears=_warmed_up,
        scales=TRAINED,
        measure=error,
        figure="spectra",
        caveat=STUCK,
        departs=("last_layer_single_units", "last_layer_small_retain", "last_layer_textbook", "last_layer_bias"),
    ),
    Claim(
        id="nearest_norm",
        statement="Each network's spectrum is nearer to its own norm's closed form than to that of any other theory.",
        source="E6; paper section 4",
        quantity="largest ‖σ − a‖ / ‖σ − rival‖, over rivals at twice what a network may be off or more",
        high=1.0,
        because=f"{OFF}; a rival at less than twice that may be nearer by chance, one beyond it may not. Rivals: other "
        "block sizes, Frobenius norms, the nuclear norm at the true λ, no dropout, and the weight × .9 and × 1.1",
        bears=_warmed_up,
        scales=TRAINED,
        measure=nearness(RIVALS, 2),
        figure="rivals",
        caveat=STUCK,
        departs=("last_layer_single_units",),
    ),
    Claim(
        id="half_of_rivals",
        statement="Each network is at most half as far from its own norm's closed form as from any other norm's.",
        source="E6; paper section 4",
        quantity="largest ‖σ − a‖ / ‖σ − rival‖, over other norms at three times what a network may be off or more",
        high=0.5,
        because=f"{OFF}; by the triangle inequality a network that far off is within half of the distance to any rival "
        "at three times it",
        bears=_warmed_up,
        scales=TRAINED,
        measure=nearness(NORMS, 3),
        figure="rivals",
        caveat=STUCK,
        departs=("last_layer_single_units",),
    ),
    Claim(
        id="weight_within_a_tenth",
        statement="The norm's weight is (r/d)(1−θ)/θ, to within 10 %.",
        source="E6; paper section 4",
        quantity="largest ‖σ − a‖ / ‖σ − rival‖, the rivals having the weight × .9 and × 1.1, where they lie three "
        "times what a network may be off or more from the closed form",
        high=0.5,
        because=f"as for other norms; {OFF}: where that is more than a third of what 10 % of the weight make, nothing "
        "is decided",
        bears=_warmed_up,
        scales=TRAINED,
        measure=nearness(RIVALS[len(NORMS) :], 3),
        figure="rivals",
        caveat=STUCK,
        departs=("last_layer_small_retain", "last_layer_textbook", "last_layer_bias"),
    ),
    Claim(
        id="assumption_is_tight",
        statement="The features are rich enough for the penalty to attain its lower bound (r/d)‖Ug(X)‖²_(r).",
        source="assumption on the feature class, E6; paper section 4",
        quantity="smallest (r/d)‖Ug(X)‖²_(r) / Σ‖U_i g_i(X)‖² at the end of training",
        low=0.95,
        high=1.0 + 1e-6,
        ideal=1.0,
        because="1 is the bound. What it lacks acts as a weight that is larger by as much: 5 % is half of the 10 % "
        "that are told apart",
        bears=_warmed_up,
        scales=TRAINED,
        measure=of_cells("tightness", "min"),
        figure="assumptions",
    ),
    Claim(
        id="balanced_blocks",
        statement="At the end of training all blocks of the last layer contribute equally.",
        source="proposition on balancedness, E6; paper sections 1 and 4",
        quantity="largest coefficient of variation of the block norms ‖U_i g_i(X)‖",
        high=0.1,
        because="a coefficient c raises the penalty by c² of itself: .1 is 1 %, what training may leave",
        bears=_warmed_up,
        scales=TRAINED,
        measure=of_cells("imbalance", "max"),
        figure="assumptions",
        caveat=STUCK,
        departs=("last_layer_single_units",),
    ),
    Claim(
        id="shrinkage_order",
        statement="Predictions shrink as θ falls.",
        source="E6; paper section 4",
        quantity="fraction of pairs of networks of one r whose Σσ stand in the closed form's order",
        low=1.0,
        high=1.0,
        because=f"every pair, but those that theory puts within {100 * DISTINCT:g} % of each other, the room that the "
        "tightness leaves. It says nothing of r: at one θ all norms have nearly one Σσ",
        bears=_warmed_up,
        scales=TRAINED,
        measure=ordering,
        figure="spectra",
    ),
    Claim(
        id="one_after_another",
        statement="With classes of unequal size the singular values collapse one after another, small classes first.",
        source="E6; paper section 4",
        quantity=f"largest difference in the number of singular values above {100 * COLLAPSED:g} % of σ₁(Y), measured "
        "against predicted",
        high=1.0,
        because="a value at the threshold may fall on either side of it. Weak: it tells no norms apart, as "
        "`half_of_rivals` does",
        bears=_warmed_up,
        scales=TRAINED,
        measure=collapse_order,
        figure="spectra",
        caveat=STUCK,
        departs=("last_layer_single_units",),
    ),
    Claim(
        id="directions_live",
        statement="With the penalty warmed up, no direction that the minimum has stays at the origin.",
        source="ours: the saddle at 0, and how to pass it",
        quantity=f"most directions of one network whose closed form a_i is above {100 * COLLAPSED:g} % of a₁ and whose "
        f"singular value is below {100 * ORIGIN:g} % of a_i",
        high=0.0,
        because="none: a direction that has left the saddle at 0 grows to its closed form's size, one at it has no "
        "gradient; few lie between",
        bears=_warmed_up,
        scales=TRAINED,
        measure=dead,
        figure="spectra",
    ),
    Claim(
        id="directions_die",
        statement="Under the whole penalty from the start some directions of small classes stay at the origin, though "
        "the minimum has them: gradients vanish there, and larger classes have taken the units.",
        source="ours: the saddle at 0, an expected departure",
        quantity="most directions of one network that stay there, as above",
        low=1.0,
        because="one is enough: with the warm-up, the same grid has none",
        measure=dead,
        scales=TRAINED,
        bears=lambda config: not _warmed_up(config),
        figure="spectra",
    ),
    Claim(
        id="network_learns",
        statement="Without dropout the same network fits the targets: what is missing under dropout is its doing.",
        source="ours",
        quantity="‖Y − Ug(X)‖² / ‖Y‖² of the network without dropout",
        high=0.01,
        because="under every noise of the grid the closed form leaves .14 and more, with which a tenth of it cannot be "
        "confused",
        measure=bare_fit,
        scales=TRAINED,
        bears=lambda config: config["options"]["without"],
    ),
)
