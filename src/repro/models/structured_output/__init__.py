"""Fully connected networks whose first layers are an auto-encoder's of the inputs, and last layers one's of the
outputs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repro.pipeline.settings import Count, Model, within

Activation = Literal["sigmoid", "tanh", "relu", "linear"]


class Settings(Model):
    """`hidden`: units of each hidden layer; `activations`: of each layer, the last that of the outputs.

    `input_layers`, `output_layers`: how many of the first and last layers the auto-encoders have; at least one lies
    between. `corruption`: the share of the inputs that masking noise blackens. `tied`: whether auto-encoders and
    network are the same tensors; if not, what auto-encoders learn does not reach the network.
    """

    kind: Literal["structured_output"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=2, strict=False)]
    activations: Annotated[tuple[Activation, ...], Field(strict=False)]
    input_layers: Count
    output_layers: Count
    corruption: Annotated[float, within("in [0, 1)", lambda value: 0 <= value < 1)]
    tied: bool

    @model_validator(mode="after")
    def _layers(self) -> "Settings":
        layers = len(self.hidden) + 1
        if len(self.activations) != layers:
            raise ValueError(
                f"model.activations: must be {layers}, one a layer of model.hidden and the outputs'; "
                f"got {len(self.activations)}"
            )
        if self.input_layers + self.output_layers >= layers:
            raise ValueError(
                f"model.output_layers={self.output_layers}: with model.input_layers={self.input_layers} must leave a "
                f"layer between, of {layers}"
            )
        return self
