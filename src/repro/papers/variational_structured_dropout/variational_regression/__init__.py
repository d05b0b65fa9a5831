"""Does structured noise predict small tables better?

One hidden ReLU layer with a Gaussian likelihood of learned variance, on the tables that packages carry: a random split,
a start and an order of the batches for each seed, the same for every method, and as many updates. Root mean square
error and log-likelihood of the test rows in units of the target, the latter of the mixture over draws.
"""

from repro.papers.variational_structured_dropout.network_claims import ELBO, claim
from repro.papers.variational_structured_dropout.settings import NetworkOptions, TableConfig


class Options(NetworkOptions):
    pass


class Config(TableConfig):
    options: Options

    @property
    def networks(self) -> int:
        arms = 6 + len(self.options.reflections) + len(self.options.drop_rates) + self.options.ensemble
        return arms * len(self.seed) * len(self.data.table)


HERE = ("variational_regression",)
UNDERFIT = (
    "with the whole divergence and a few hundred rows the posteriors underfit: the nearer they come to the largest "
    "ELBO (rates that learn faster, or for longer), the lower their test likelihood is on two of three tables"
)

CLAIMS = (
    ELBO,
    claim(
        "likelihood_above_map",
        "Structured noise predicts with a higher likelihood than a point estimate.",
        "test log-likelihood of VSD less that of MAP, nats an example",
        "log_likelihood",
        ("VSD", "MAP"),
        figure="tables",
        caveat=UNDERFIT,
        departs=HERE,
    ),
    claim(
        "likelihood_above_vd",
        "Structured noise predicts with a higher likelihood than noise without rotation.",
        "test log-likelihood of VSD less that of VD-EB, nats an example",
        "log_likelihood",
        ("VSD", "VD-EB"),
        figure="tables",
    ),
    claim(
        "likelihood_above_dropout",
        "Structured noise predicts with a higher likelihood than MC dropout at its best rate.",
        "test log-likelihood of VSD less that of MC dropout, nats an example",
        "log_likelihood",
        ("VSD", "dropout"),
        figure="tables",
        caveat=UNDERFIT,
        departs=HERE,
    ),
)

CAPTIONS = {
    "tables": "Test log-likelihood and error of every method less those of VD-EB on the same splits: means and 95 % "
    "intervals over splits. To the right is better in the upper row, to the left in the lower one.",
    "elbo": "Training ELBO of every method with one, less that of VD-EB on the same splits.",
}
"""What to look for in each figure."""
