"""A device that rarely asks has hundreds of tokens audited at once: no forward holds more than some rows of them."""

import asyncio

import pytest

from fakes import FakeEngine, contextual
from sessions import PREFIX, ask, opened
from uihlm_basestation.audits import AUDIT_ROWS
from uihlm_basestation.batcher import Batcher
from uihlm_proto.audit import decode, encode
from uihlm_proto.sampling import Sampling
from uihlm_proto.v1 import verification_pb2 as pb

V = 40
LOGITS = contextual(V, 1)


def played(uploads):
    """The last verdicts of each upload, and every part that the engine ran."""

    async def play():
        engine = FakeEngine(LOGITS, V)
        batcher = Batcher(engine)
        session = await opened(engine, batcher)
        verdicts = [(await ask(session, upload))[-1] for upload in uploads]
        await batcher.close()
        return verdicts, engine.log

    return asyncio.run(play())


def risk_of(position, token, known):
    y = Sampling(1.0).distribution(LOGITS(known[:position]))
    return max(0.0, 1.0 - y[token] / decode(encode(0.3)))


@pytest.mark.parametrize("count", [1, AUDIT_ROWS - 1, AUDIT_ROWS, AUDIT_ROWS + 1, 3 * AUDIT_ROWS, 200])
@pytest.mark.parametrize("drafts", [0, 1, 3])
@pytest.mark.parametrize("first_there", [True, False])
def test_a_long_audit_says_of_each_token_what_a_short_one_would(count, drafts, first_there):
    """With the row before the first token at hand (Open's), or behind a verdict, where it is yet to be made."""
    uploads, known = [], list(PREFIX)
    if not first_there:
        uploads.append(pb.Upload(first_position=len(known), generate=2))
        known += [verdict.token_id for verdict in verdicts_of(uploads[0])]
    skipped = [(7 * i + 3) % V for i in range(count)]
    asked = pb.Upload(
        first_position=len(known) + count,
        skipped_ids=skipped,
        drafts=[pb.Draft(payload=bytes([token])) for token in range(drafts)],
    )
    audited = pb.Upload()
    audited.CopyFrom(asked)
    audited.audit = encode(0.3).to_bytes(1, "little") * count
    following = pb.Upload(first_position=len(known) + count, generate=1)
    (*_, verdict), log = played([*uploads, audited])
    for i, token in enumerate(skipped):
        expected = risk_of(len(known) + i, token, known + skipped)
        assert verdict.skipped_reject_probability[i] == pytest.approx(expected, abs=1e-6)
    assert len(verdict.skipped_reject_probability) == count
    assert max(part.rows for part in log) <= AUDIT_ROWS + drafts + 1
    if drafts:
        (*_, plain), _ = played([*uploads, asked])
        assert (verdict.accepted, verdict.token_id) == (plain.accepted, plain.token_id)
        assert verdict.cost.positions == plain.cost.positions
    else:
        asked.generate = 1
        (*_, after), _ = played([*uploads, audited, following])
        (*_, plain), _ = played([*uploads, asked])
        assert after.token_id == plain.token_id


def verdicts_of(upload):
    async def play():
        engine = FakeEngine(LOGITS, V)
        batcher = Batcher(engine)
        found = await ask(await opened(engine, batcher), upload)
        await batcher.close()
        return found

    return asyncio.run(play())
