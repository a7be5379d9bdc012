"""Engines of other packages: what they must have, said when they are loaded."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes import FakeEngine, contextual
from uihlm_basestation.engines import loading
from uihlm_basestation.engines.loading import EngineSettings, load_engine
from uihlm_models.errors import ModelError
from uihlm_models.sources import Kind, ModelSource

SOURCE = ModelSource(Kind.GGUF, Path("m.gguf"), "m")


@pytest.fixture
def package(monkeypatch):
    """Returns a function that installs an engine named `theirs`."""

    def install(engine):
        point = SimpleNamespace(name="theirs", load=lambda: lambda source, settings: engine)
        monkeypatch.setattr(loading, "entry_points", lambda group, name=None: [point])

    return install


def test_an_engine_that_has_everything_is_taken(package):
    engine = FakeEngine(contextual(8, 1), 8)
    package(engine)
    assert load_engine(SOURCE, EngineSettings("theirs")) is engine


def test_one_that_lacks_something_is_refused_before_it_serves_anybody(package):
    whole = FakeEngine(contextual(8, 1), 8)
    names = ("vocabulary_size", "fingerprint", "stop_ids", "max_context", "description", "caches", "missing", "forward")
    package(SimpleNamespace(**{name: getattr(whole, name) for name in names}))
    with pytest.raises(ModelError, match=r"engine 'theirs' lacks beside, close_session, which .*add-an-engine"):
        load_engine(SOURCE, EngineSettings("theirs"))
