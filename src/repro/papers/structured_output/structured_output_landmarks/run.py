"""Errors of predicted points, over a reference length."""

from repro.papers.structured_output import measuring
from repro.papers.structured_output.structured_output_landmarks import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.theory import landmark_errors


def run(config: Config, progress: Progress) -> Result:
    return measuring.run(config, progress, landmark_errors)
