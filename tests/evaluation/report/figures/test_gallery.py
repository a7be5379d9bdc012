"""All figures of a run: valid SVG and PNG files, the same bytes each time, and no silent hole."""

import dataclasses
from xml.etree import ElementTree

import pytest

from evaluation.report.synthetic_study import grid, study
from uihlm_evaluation.drawing.style import svg
from uihlm_evaluation.report.figures import gallery
from uihlm_evaluation.report.figures.gallery import draw_figures, write_figures
from uihlm_evaluation.runs.samples import Stop

pytestmark = pytest.mark.slow

NAMES = ["attention", "bertscore", "speed", "energy", "frontier_energy", "frontier_forwards"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run():
    return study(prompts=30)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return write_figures(run, tmp_path_factory.mktemp("out") / "figures")


def test_every_figure_is_written_in_both_forms(written):
    assert [path.name for path in written.paths] == [f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")]
    assert written.left_out == {}


def test_svg_files_are_light_and_keep_text_as_text(written):
    for path in written.paths[::2]:
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg"
        words = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
        assert "tokens" in words or "BERTScore" in words or "energy" in words
        assert path.stat().st_size < 200_000


def test_png_files_are_whole(written):
    for path in written.paths[1::2]:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
        assert int.from_bytes(content[16:20]) > 1000, "pixels across"


def test_the_same_run_gives_the_same_bytes(run, written, tmp_path):
    again = write_figures(run, tmp_path)
    assert [path.read_bytes() for path in again.paths] == [path.read_bytes() for path in written.paths]


def test_a_figure_for_a_page_is_one_svg_element_with_ids_of_its_own(run):
    figures = draw_figures(run).drawn
    pages = [svg(entry.figure, entry.name) for entry in figures]
    assert all(ElementTree.fromstring(page).tag == f"{SVG}svg" for page in pages)
    used = [
        {part.split('"')[0].rstrip(")") for part in page.replace('href="#', "url(#").split("url(#")[1:]}
        for page in pages
    ]
    assert all(used)
    for number, ids in enumerate(used):
        assert not ids & set().union(*used[:number], *used[number + 1 :])


def test_captions_are_sentences(run):
    assert all(entry.caption[0].isupper() and entry.caption.endswith(".") for entry in draw_figures(run).drawn)


def test_what_the_run_has_no_data_for_is_named_with_the_reason(tmp_path):
    bare = study(prompts=4, rows=[row for row in grid() if row[0].policy in ("slm", "u")], scored=False, rounds=False)
    written = write_figures(bare, tmp_path)
    assert written.paths == ()
    assert list(written.left_out) == NAMES
    assert "run i or ui" in written.left_out["attention"]
    assert "without scores" in written.left_out["frontier_forwards"]


def test_a_run_that_failed_throughout_has_no_figures_and_no_traceback():
    run = study(prompts=3)
    samples = tuple(dataclasses.replace(sample, stop=Stop.ERROR, error="lost") for sample in run.samples)
    figures = draw_figures(dataclasses.replace(run, samples=samples))
    assert "no prompt of the run was answered" in figures.left_out["energy"]


def test_intervals_of_figures_are_drawn_from_the_runs_own_seed(monkeypatch):
    run, seeds = study(prompts=6), []
    plain = gallery.ratio_intervals
    monkeypatch.setattr(gallery, "ratio_intervals", lambda *given: seeds.append(given[-1]) or plain(*given))
    gallery.draw_figures(dataclasses.replace(run, document={**run.document, "config": {"selection": {"seed": 5}}}))
    assert seeds == [5]
