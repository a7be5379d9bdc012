"""Messages that a correct device could send, drawn at random; each is answered, and the session goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.fuzz.engine import STOP, VOCABULARY, Table, TableEngine
from benchmarks.fuzz.messages.belief import Belief
from uihlm_proto.codecs import codec
from uihlm_proto.limits import PROTOCOL_VERSION
from uihlm_proto.v1 import verification_pb2 as pb

CODECS = ("dense32", "dense16", "lattice", "coupled", "lattice:k=4,l=16")
_MOST_DRAFTS = 6
# Payloads of random drafts, made once a codec and salt: drawing one takes longer than sending it.
_PAYLOADS = 64
_KEY = bytes(range(16))


def _payloads(name: str) -> list[bytes]:
    uplink, rng = codec(name, VOCABULARY), np.random.default_rng(7)
    x = rng.dirichlet(np.full(VOCABULARY, 0.3), size=_PAYLOADS)
    drafts = [uplink.draft(row, _KEY, position) for position, row in enumerate(x)]
    # After an end of the answer no bonus follows, which whoever sends ahead would have to know; trees hold some.
    return [draft.encode() for draft in drafts if draft.token != STOP]


_LLM = Table(salt=1)
PAYLOADS = {name: _payloads(name) for name in CODECS}


def _sure(token: int, dtype: str) -> bytes:
    x = np.zeros(VOCABULARY, dtype)
    x[token] = 1.0
    return bytes([token]) + x.tobytes()


# Drafts of one token that a device is sure of.
_SURE: dict[str, Callable[[int], bytes]] = {
    "dense32": lambda token: _sure(token, "<f4"),
    "dense16": lambda token: _sure(token, "<f2"),
    "coupled": lambda token: bytes([token]),
}


def ids(rng: random.Random, most: int, least: int = 0) -> list[int]:
    """Return some token ids."""
    return [rng.randrange(VOCABULARY) for _ in range(rng.randint(least, max(least, most)))]


def opening(rng: random.Random) -> pb.VerifyRequest:
    """Return an Open."""
    sampling = pb.Sampling(
        temperature=rng.choice((0.0, 0.0, 0.6, 1.0, 1e-300, 50.0)),
        top_k=rng.choice((0, 0, 1, 5, 2**32 - 1)),
        top_p=rng.choice((0.0, 1.0, 0.9, 1e-12)),
    )
    return pb.VerifyRequest(
        open=pb.Open(
            round=rng.getrandbits(32),
            protocol_version=PROTOCOL_VERSION,
            tokenizer_fingerprint=TableEngine.fingerprint,
            vocabulary_size=VOCABULARY,
            prefix_ids=ids(rng, 12, least=1),
            sampling=sampling,
            codec=rng.choice(CODECS),
            session_key=rng.randbytes(16),
            # The LLM's own, said or not: the books below know no other.
            stop_ids=rng.choice(((), (STOP,), (STOP, STOP))),
        )
    )


def _upload(rng: random.Random, belief: Belief, unsent: Sequence[int], **fields: object) -> pb.VerifyRequest:
    cut = len(unsent) if fields.get("audit") is not None else rng.randint(0, len(unsent))
    context, skipped = unsent[: len(unsent) - cut], unsent[len(unsent) - cut :]
    return pb.VerifyRequest(
        upload=pb.Upload(
            round=rng.getrandbits(32),
            epoch=belief.epoch,
            first_position=belief.length + len(unsent),
            context_ids=context,
            skipped_ids=skipped,
            **fields,
        )
    )


def chain(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return drafts in a row, some with an audit, some on the right guess of a bonus."""
    drafts = rng.choice((1, 1, 1, 2, 4, _MOST_DRAFTS))
    unsent = ids(rng, 3)
    if len(unsent) + drafts > belief.room:
        return None
    fields: dict[str, object] = {"drafts": payloads(rng, belief, drafts, unsent)}
    if unsent and rng.random() < 0.3:
        fields["audit"] = rng.randbytes(len(unsent))
    if belief.bonus is not None and rng.random() < 0.5:
        fields["assumed_id"] = belief.bonus
    if rng.random() < 0.4:
        fields["run_on"] = rng.choice((pb.RUN_ON_NOW, pb.RUN_ON_COUNTED))
    return _upload(rng, belief, unsent, **fields)


def tree(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return a draft tree; under the codec coupled only."""
    nodes = rng.randint(1, 12)
    unsent = ids(rng, 3)
    if belief.codec != "coupled" or len(unsent) + nodes > belief.room:
        return None
    parents: list[int] = []
    tokens: list[int] = []
    taken: set[tuple[int, int]] = set()
    good = likely([*belief.ids, *unsent], nodes) if belief.greedy else []
    deepest = -1
    for node in range(nodes):
        parent, token = rng.randint(-1, node - 1), rng.randrange(VOCABULARY)
        if good and rng.random() < 0.6:
            # One node further down the path that the LLM will walk.
            parent, token, deepest = deepest, good.pop(0), node
        while (parent, token) in taken:
            token = (token + 1) % VOCABULARY
        taken.add((parent, token))
        parents.append(parent)
        tokens.append(token)
    return _upload(rng, belief, unsent, drafts=[pb.Draft(payload=bytes([t])) for t in tokens], parents=parents)


def continued(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return more of the tree that was judged last, on the LLM's way or beside it."""
    tree, nodes = belief.tree, rng.randint(1, 6)
    if tree is None or nodes + len(tree.tokens) > belief.room:
        return None
    before = len(tree.tokens)
    taken = set(zip(tree.parents, tree.tokens, strict=True))
    tokens: list[int] = []
    parents: list[int] = []
    for node in range(before, before + nodes):
        parent, token = rng.randint(-1, node - 1), rng.randrange(VOCABULARY)
        if rng.random() < 0.5:
            # What the LLM drew, or a node that hangs from it.
            parent, token = (tree.end, belief.ids[-1]) if node == before else (node - 1, token)
        while (parent, token) in taken:
            token = (token + 1) % VOCABULARY
        taken.add((parent, token))
        parents.append(parent)
        tokens.append(token)
    return pb.VerifyRequest(
        upload=pb.Upload(
            round=rng.getrandbits(32),
            epoch=tree.epoch,
            first_position=tree.first_position,
            drafts=[pb.Draft(payload=bytes([token])) for token in tokens],
            parents=parents,
            continues=before,
        )
    )


def generate(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return a request that the LLM go on alone, sometimes for more than the context holds."""
    unsent = ids(rng, 2)
    if len(unsent) + 1 > belief.room:
        return None
    limit = rng.choice((1, 1, 2, 3, 5, 2**32 - 1 if rng.random() < 0.02 else 4))
    return _upload(rng, belief, unsent, generate=limit, stream_interval=rng.choice((0, 0, 1, 2, 3, 64)))


def audit(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return an audit alone."""
    unsent = ids(rng, 4, least=1)
    if len(unsent) > belief.room:
        return None
    return _upload(rng, belief, unsent, audit=rng.randbytes(len(unsent)))


def stale(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return an upload of an older epoch, whose other fields may be anything."""
    if belief.epoch == 0:
        return None
    request = pb.VerifyRequest(
        upload=pb.Upload(
            round=rng.getrandbits(32),
            epoch=rng.randrange(belief.epoch),
            first_position=rng.getrandbits(32),
            context_ids=[rng.getrandbits(32) for _ in range(rng.randint(0, 3))],
            drafts=[pb.Draft(payload=rng.randbytes(rng.randint(0, 20))) for _ in range(rng.randint(0, 3))],
            generate=rng.choice((0, 1, 2**32 - 1)),
            audit=rng.randbytes(rng.randint(0, 3)),
        )
    )
    if rng.random() < 0.3:
        request.upload.assumed_id = rng.getrandbits(32)
    return request


def wrong_guess(rng: random.Random, belief: Belief) -> pb.VerifyRequest | None:
    """Return an upload on another bonus than the one that came; dropped, which is no error."""
    if belief.bonus is None:
        return None
    fields = {"drafts": payloads(rng, belief, 1), "assumed_id": (belief.bonus + 1) % VOCABULARY}
    return _upload(rng, belief, [], **fields)


def in_flight(rng: random.Random, belief: Belief) -> list[pb.VerifyRequest]:
    """Return uploads sent without waiting, each on a guess of the bonus before it; as a whole they are always answered."""
    requests: list[pb.VerifyRequest] = []
    ahead = Belief(True, belief.codec, belief.greedy, list(belief.ids), belief.epoch, belief.bonus)
    for _ in range(rng.randint(2, 4)):
        drafts = rng.randint(2, 3)
        if drafts + 1 > ahead.room:
            break
        guess = likely(ahead.ids, drafts + 1)
        fields: dict[str, object] = {"drafts": payloads(rng, ahead, drafts)}
        if requests:
            fields["assumed_id"] = ahead.ids[-1] if rng.random() < 0.8 else rng.randrange(VOCABULARY)
        requests.append(_upload(rng, ahead, [], **fields))
        if guess[drafts - 1] == STOP:
            break
        ahead.ids += guess
    return requests


def likely(context: Sequence[int], count: int) -> list[int]:
    """Return what the LLM writes after some ids if it takes its likeliest token each time."""
    ids = list(context)
    for _ in range(count):
        ids.append(int(_LLM.after(ids).argmax()))
    return ids[len(context) :]


def payloads(rng: random.Random, belief: Belief, count: int, unsent: Sequence[int] = ()) -> list[pb.Draft]:
    """Return drafts of the session's codec; to a greedy LLM often those that it will let stand."""
    if belief.greedy and belief.codec in _SURE and rng.random() < 0.8:
        made = [_SURE[belief.codec](token) for token in likely([*belief.ids, *unsent], count)]
        return [pb.Draft(payload=payload) for payload in made]
    known = PAYLOADS.get(belief.codec, PAYLOADS["dense32"])
    return [pb.Draft(payload=rng.choice(known)) for _ in range(count)]


Maker = Callable[[random.Random, Belief], pb.VerifyRequest | None]
RIGHT: dict[str, Maker] = {
    "chain": chain,
    "tree": tree,
    "more of a tree": continued,
    "generate": generate,
    "audit": audit,
    "stale": stale,
    "wrong guess": wrong_guess,
}
WEIGHTS = (8, 3, 3, 1, 1, 3, 1)
