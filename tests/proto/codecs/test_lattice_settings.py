"""One canonical name a codec, and a sentence for what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uihlm_proto.codecs import CODECS, canonical_name, codec
from uihlm_proto.codecs.lattice_settings import (
    MAX_K,
    MAX_STEPS,
    AdaptiveLattice,
    FixedLattice,
    lattice_settings,
)
from uihlm_proto.errors import InvalidRequestError

shares = st.integers(1, 999_999).map(lambda n: n / 1_000_000)


@pytest.mark.parametrize(
    ("given_name", "canonical"),
    [
        ("dense32", "dense32"),
        ("coupled", "coupled"),
        ("lattice", "lattice:k=16,l=128"),
        ("lattice:l=128,k=16", "lattice:k=16,l=128"),
        ("lattice:k=64", "lattice:k=64,l=128"),
        ("lattice:l=1", "lattice:k=16,l=1"),
        ("lattice:tv=.05", "lattice:tv=0.05"),
        ("lattice:alpha=0.10,tv=0.050", "lattice:tv=0.05,alpha=0.1"),
        ("lattice:tv=0.000001,alpha=0.0", "lattice:tv=0.000001"),
        (f"lattice:k={MAX_K},l={MAX_STEPS}", f"lattice:k={MAX_K},l={MAX_STEPS}"),
    ],
)
def test_names_have_one_canonical_form(given_name, canonical):
    assert canonical_name(given_name) == canonical
    assert canonical_name(canonical) == canonical
    assert codec(given_name, 300).name == canonical


@given(
    st.one_of(
        st.builds(FixedLattice, st.integers(1, MAX_K), st.integers(1, MAX_STEPS)),
        st.builds(AdaptiveLattice, shares, st.one_of(st.just(0.0), shares)),
    )
)
def test_a_name_says_its_settings(settings):
    assert lattice_settings(settings.name.removeprefix("lattice:")) == settings


@pytest.mark.parametrize(
    "parameters",
    [
        "k", "k=", "k=0", "k=-1", "k=+4", "k=04", "k= 4", "k=4 ", "k=1e1", "k=4.0", "k=٤", "k=129", "k=99999999999",
        "l=4097", "l=0", "k=4,k=4", "k=4,,l=8", "k=4,", ",k=4", "K=4", "ell=8", "k=4;l=8", "tv=0", "tv=0.0", "tv=1",
        "tv=1.0", "tv=-0.1", "tv=nan", "tv=inf", "tv=5e-2", "tv=0.0000001", "tv=0.05,alpha=1", "alpha=0.1",
        "tv=0.1,k=4", "tv=0.1,l=9", "tv=0.1,tv=0.1", "k=4\n", "k=4\0",
    ],
)  # fmt: skip
def test_what_is_no_set_of_parameters_is_refused_with_what_is_allowed(parameters):
    with pytest.raises(InvalidRequestError, match=r"takes k=1…128 and l=1…4096.*or tv and if need be alpha"):
        codec(f"lattice:{parameters}", 300)


@pytest.mark.parametrize("name", ["lattice:", "Lattice", "lattice ", "lattice:" + "k=1," * 20, "x" * 100_000, ":k=4"])
def test_what_is_no_name_is_refused_briefly(name):
    with pytest.raises(InvalidRequestError, match="this end knows coupled, dense16, dense32, lattice") as raised:
        codec(name, 300)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", sorted(CODECS.keys() - {"lattice"}))
def test_other_codecs_take_no_parameters(name):
    with pytest.raises(InvalidRequestError, match=f"codec {name} takes no parameters, got 'k=4'"):
        codec(f"{name}:k=4", 300)
