"""The plan's map in a run's report: by the profile in the run's folder, the run's codec, power and watts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uihlm_evaluation.calibration.profile import ProfileError, load_profile
from uihlm_evaluation.drawing.style import FigureDataError
from uihlm_evaluation.planning.bundled import figures_of
from uihlm_evaluation.planning.equations import Conditions, Model
from uihlm_evaluation.planning.map import map_figure
from uihlm_evaluation.planning.plan import Objective
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.report.folder import RunFolder
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.codecs import codec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_map(run: RunFolder) -> Figure:
    """Return the map of most tokens a second.

    Raises:
        FigureDataError: if the profile is none, or lacks what a plan needs.
    """
    try:
        profile = load_profile(run.path)
        figures = figures_of(profile)
    except ProfileError as error:
        raise FigureDataError(str(error)) from error
    config = RunConfig.from_dict(run.document["config"])
    coupled = config.codec == "coupled"
    acceptance = None if coupled else 1.0 - profile.mean_rejection.mean
    model = Model(figures, Sizes(codec(config.codec, run.vocabulary_size)), acceptance)
    conditions = Conditions(config.link, joules=config.joules)
    return map_figure(model, conditions, Objective.TOKENS, config.decode.risk or 0.0, trees=coupled)
