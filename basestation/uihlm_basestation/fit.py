"""Do the two ends fit each other, and messages the session?"""

from __future__ import annotations

from collections.abc import Sequence

from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.trees import check_parents, depths
from uihlm_proto.errors import InvalidRequestError, MismatchError
from uihlm_proto.limits import MAX_DRAFTS, MAX_STOP_IDS, MAX_STREAM_INTERVAL, PROTOCOL_VERSION
from uihlm_proto.randomness import KEY_BYTES
from uihlm_proto.v1 import verification_pb2 as pb


def check_ends(engine: Engine, request: pb.Open) -> None:
    """Raise MismatchError for a device of another protocol version, vocabulary size or tokenizer."""
    version, size, fingerprint = request.protocol_version, request.vocabulary_size, request.tokenizer_fingerprint
    if version != PROTOCOL_VERSION:
        raise MismatchError(
            f"protocol version {version} is not spoken here: this base station speaks {PROTOCOL_VERSION}"
        )
    if size != engine.vocabulary_size:
        raise MismatchError(
            f"the device's vocabulary has {size} tokens, the LLM's {engine.vocabulary_size}: use two models of one family"
        )
    if fingerprint != engine.fingerprint:
        raise MismatchError(
            f"the device's tokenizer ({fingerprint.hex()[:12]}…) is not the LLM's ({engine.fingerprint.hex()[:12]}…): "
            "use two models with one tokenizer"
        )


def check_open(engine: Engine, request: pb.Open) -> None:
    """Raise what `Session.open` says, but for the codec and the sampling contract."""
    check_ends(engine, request)
    if len(request.session_key) != KEY_BYTES:
        raise InvalidRequestError(f"session_key must have {KEY_BYTES} bytes, got {len(request.session_key)}")
    if not request.prefix_ids:
        raise InvalidRequestError("prefix_ids is empty: a session starts from at least one token")
    check_ids(engine, request.prefix_ids, len(request.prefix_ids))
    if len(request.stop_ids) > MAX_STOP_IDS:
        raise InvalidRequestError(f"{len(request.stop_ids)} stop_ids: at most {MAX_STOP_IDS} may end an answer")
    check_ids(engine, request.stop_ids, 0)


def check_drafts(engine: Engine, request: pb.Upload, known: int) -> None:
    """Raise InvalidRequestError for too many drafts, parents of no tree, ids the LLM lacks, a `run_on` or
    `stream_interval` that is none, or a place that is not behind the `known` ids and those that the upload brings."""
    check_count(request)
    check_run_on(request)
    check_stream_interval(request)
    unsent = [*request.context_ids, *request.skipped_ids]
    position = known + len(unsent)
    if request.first_position != position:
        raise InvalidRequestError(
            f"first_position is {request.first_position}, but the ids sent so far end at {position}: out of step"
        )
    if request.parents:
        check_parents(request.parents, len(request.drafts))
    deepest = max(depths(request.parents), default=len(request.drafts) - 1)
    check_ids(engine, unsent, position + max(deepest + 1, bool(request.generate)))


def check_count(request: pb.Upload) -> None:
    """Raise InvalidRequestError for more drafts than one upload may hold."""
    if len(request.drafts) > MAX_DRAFTS:
        raise InvalidRequestError(f"{len(request.drafts)} drafts in one upload: at most {MAX_DRAFTS} are judged")


def check_run_on(request: pb.Upload) -> None:
    """Raise InvalidRequestError for a `run_on` that the protocol does not have, or beside anything but a chain of drafts."""
    if not request.run_on:
        return
    if request.run_on not in pb.RunOn.values():
        raise InvalidRequestError(f"run_on is {request.run_on}: this base station knows {list(pb.RunOn.keys())}")
    if request.parents or not request.drafts:
        raise InvalidRequestError(
            "run_on goes with a chain of drafts: a tree, an audit alone and generate have no next draft"
        )


def check_stream_interval(request: pb.Upload) -> None:
    """Raise InvalidRequestError for a `stream_interval` beyond the most, or where there is no stream of verdicts."""
    if request.stream_interval > MAX_STREAM_INTERVAL:
        raise InvalidRequestError(
            f"stream_interval is {request.stream_interval}: a verdict tells of {MAX_STREAM_INTERVAL} tokens at most"
        )
    if request.stream_interval and not request.generate:
        raise InvalidRequestError("stream_interval goes with generate: any other upload has one verdict")


def check_ids(engine: Engine, ids: Sequence[int], needed: int) -> None:
    """Raise InvalidRequestError for an id that the LLM does not have, or if `needed` positions are too many."""
    bad = next((i for i in ids if i >= engine.vocabulary_size), None)
    if bad is not None:
        raise InvalidRequestError(f"token id {bad} is outside the vocabulary of {engine.vocabulary_size}")
    if needed > engine.max_context:
        raise InvalidRequestError(
            f"{needed} positions are needed, a session here holds {engine.max_context}: shorten the prompt"
        )
