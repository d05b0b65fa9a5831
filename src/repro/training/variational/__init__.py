"""Adam on the ELBO, of several networks of one shape as one batch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Positive, Training, within


class Settings(Training):
    """`kl_warmup`: the share of the steps over which the divergence comes in. `prior_variance`: of fixed normal priors.

    `columns`, `prior`: of the posteriors of structured noise; `hierarchical` goes with `shared`. `sampling`:
    of independent columns in training, see `VariationalLinear`. `samples`: of a
    posterior that a prediction averages over.
    """

    ROUNDING: ClassVar[float] = 0.2
    BATCHED: ClassVar[bool] = True

    kind: Literal["variational"]
    steps: Count
    batch_size: Count
    learning_rate: Positive
    noise_learning_rate: Positive
    kl_warmup: Annotated[float, within("in [0, 1]", lambda value: 0 <= value <= 1)]
    prior_variance: Positive
    columns: Literal["independent", "shared"]
    prior: Literal["empirical_bayes", "normal", "hierarchical"]
    sampling: Literal["local", "pairs"]
    samples: Count
    log_points: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _combination(self) -> "Settings":
        if (self.prior == "hierarchical") != (self.columns == "shared"):
            raise ValueError(
                f"training.prior={self.prior}: infinite with training.columns={self.columns}; hierarchical goes with "
                "shared columns, the others with independent ones"
            )
        return self

    @property
    def smaller(self) -> str:
        return f"training.batch_size below {self.batch_size}"
