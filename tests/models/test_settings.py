"""Which models there are, and that their settings are light."""

import subprocess
import sys

from repro.pipeline.settings import ours


def test_the_models():
    assert list(ours("models")) == [
        "convnet", "deep_linear", "lenet5", "linear", "mlp", "perceptron", "resnet110", "resnet18", "resnet20",
        "resnet50", "resnet56", "resnet8", "structured_output",
    ]  # fmt: skip


def test_settings_need_no_torch():
    script = "import sys; from repro.pipeline.settings import ours; ours('models'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"torch", "scipy"} & {*loaded}
