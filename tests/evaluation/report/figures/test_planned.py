"""The plan's map in a report: drawn where the run's folder holds a profile, left out by name where that lacks the figures."""

import dataclasses

from evaluation.report.synthetic_study import study
from uihlm_evaluation.planning.bundled import bundled_profile
from uihlm_evaluation.report.figures.gallery import draw_figures
from uihlm_evaluation.runs.configuration import RunConfig


def test_map_stands_in_a_report_whose_folder_holds_a_profile(tmp_path):
    run = study(prompts=3)
    run = dataclasses.replace(run, path=tmp_path, document={**run.document, "config": RunConfig().to_dict()})
    assert "plan" not in [entry.name for entry in draw_figures(run).drawn]
    bundled_profile().save(tmp_path)
    assert draw_figures(run).drawn[0].name == "plan"
    dataclasses.replace(bundled_profile(), plan=None).save(tmp_path)
    figures = draw_figures(run)
    assert "plan --measure" in figures.left_out["plan"] and "plan" not in [entry.name for entry in figures.drawn]
