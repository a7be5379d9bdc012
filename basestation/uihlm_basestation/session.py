"""One device's session: its ids, its epoch and the one place where uploads become forwards and verdicts.

    NEW ──open──▶ READY ──upload──▶ READY … ──close──▶ CLOSED

Any other edge is a ProtocolError. The session commits ids only after their verdict is made, so a bad upload leaves it as
it was, and it knows nothing of gRPC: requests and responses are protocol messages, errors are domain errors.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from uihlm_basestation.audits import AUDIT_ROWS, check_kind, skipped_risk
from uihlm_basestation.batcher import Batcher
from uihlm_basestation.engines.engine import Engine
from uihlm_basestation.engines.trees import ROOT, check_siblings, depths
from uihlm_basestation.fit import check_count, check_drafts, check_ids, check_open
from uihlm_basestation.open_tree import OpenTree, check_continuation
from uihlm_basestation.parts import Forwarded
from uihlm_basestation.prefix import Prefix
from uihlm_basestation.verification import earns_bonus, verify_chain, verify_tree
from uihlm_basestation.writing import write
from uihlm_proto.codecs import Codec, Judge, codec
from uihlm_proto.errors import InvalidRequestError, ProtocolError
from uihlm_proto.randomness import KEY_BYTES, Draws
from uihlm_proto.sampling import Row, Sampling
from uihlm_proto.v1 import verification_pb2 as pb


class State(enum.Enum):
    """Where a session stands."""

    NEW = "new"
    READY = "ready"
    CLOSED = "closed"


class Session:
    """The base station's side of one stream."""

    def __init__(self, number: int, engine: Engine, batcher: Batcher) -> None:
        self.number = number
        self.state = State.NEW
        self._engine = engine
        self._prefix = Prefix(number, engine, batcher, Draws(bytes(KEY_BYTES)))
        self._epoch = 0
        # The bonus token of the last verdict, while nothing has been judged after it.
        self._bonus: int | None = None
        # The tree judged last, while uploads may continue it.
        self._tree: OpenTree | None = None
        self._sampling = Sampling()
        self._codec: Codec = codec("dense32", engine.vocabulary_size)

    async def open(self, request: pb.Open) -> pb.Ready:
        """Check that the two ends fit, prefill the prefix and answer.

        Raises:
            ProtocolError: if the session is already open.
            MismatchError: another protocol version, vocabulary size or tokenizer.
            InvalidRequestError: no prefix, an id out of range, a prefix too long, an unknown codec, a bad sampling
                contract or key.
        """
        if self.state is not State.NEW:
            raise ProtocolError("the session is already open: Open is the first message, once")
        check_open(self._engine, request)
        prefix = list(request.prefix_ids)
        self._codec = codec(request.codec, self._engine.vocabulary_size)
        contract = request.sampling
        # An unset top_p arrives as 0 and means the same as 1: keep all.
        self._sampling = Sampling(contract.temperature, contract.top_k, contract.top_p or 1.0)
        self._prefix.draws = Draws(request.session_key)
        # What ends an answer is the device's to say: the two models may differ in it, and both ends must agree.
        self._prefix.stop_ids = frozenset(request.stop_ids) or self._engine.stop_ids
        forwarded = await self._prefix.prefill(prefix)
        self.state = State.READY
        return pb.Ready(round=request.round, max_context=self._engine.max_context, cost=forwarded.cost)

    async def upload(self, request: pb.Upload) -> AsyncIterator[pb.Verdict]:
        """Answer an upload: one verdict on its drafts, or several on up to `generate` tokens.

        Raises:
            ProtocolError: if the session is not open.
            InvalidRequestError: what the protocol forbids, said in a sentence; the session stays as it was.
        """
        if self.state is not State.READY:
            raise ProtocolError(f"the session is {self.state.value}: Open comes first")
        if request.epoch > self._epoch:
            raise InvalidRequestError(f"epoch {request.epoch} is ahead of this session's {self._epoch} corrections")
        if request.continues:
            yield await self._continue_tree(request)
            return
        if request.epoch < self._epoch:
            yield pb.Verdict(round=request.round, stale=True)
            return
        check_kind(request)
        if request.HasField("assumed_id"):
            if self._bonus is None:
                raise InvalidRequestError(
                    f"assumed_id is {request.assumed_id}, but no bonus token came before this upload: leave it out"
                )
            if request.assumed_id != self._bonus:
                # A wrong guess is a correction too: what the device built on it is dropped, now and in later uploads.
                self._epoch += 1
                yield pb.Verdict(round=request.round, stale=True)
                return
        check_drafts(self._engine, request, len(self._prefix.ids))
        unsent = [*request.context_ids, *request.skipped_ids]
        self._tree = None
        if request.parents:
            yield await self._judge_tree(request, unsent)
        elif request.generate == 0:
            yield await self._judge(request, unsent)
        else:
            async for verdict in self._generate(request, unsent):
                yield verdict

    def close(self) -> None:
        """Take no more messages."""
        self.state = State.CLOSED

    async def _judge(self, request: pb.Upload, unsent: list[int]) -> pb.Verdict:
        prefix = self._prefix
        drafts = [self._codec.decode(draft.payload) for draft in request.drafts]
        await prefix.settle(more=bool(unsent) or len(drafts) > 1)
        tokens = [draft.token for draft in drafts]
        position = len(prefix.ids) + len(unsent)
        risk, before = await self._audit_ahead(request, unsent) if request.audit else ([], None)
        audited = len(request.audit) - len(risk)
        first = position - audited
        # Row i is of position first + i: audited tokens, then drafts. The last one itself is run only for a bonus after it.
        count = audited + len(drafts) + earns_bonus(drafts, prefix.stop_ids)
        rows, forwarded = await prefix.rows([*unsent, *tokens], first, count, self._codec.judge, position)
        if before is not None:
            forwarded = before if forwarded is None else before.plus(forwarded)
        if audited:
            risk += self._risk(request, len(risk), rows[:audited])
        prefix.ids += unsent
        if not drafts:
            prefix.ran, prefix.row, self._bonus = position - 1, None, None
            return pb.Verdict(
                round=request.round, last=True, skipped_reject_probability=risk, cost=prefix.bill(forwarded)
            )
        verdict = verify_chain(
            drafts,
            lambda i: Row(rows[audited + i], self._sampling),
            self._codec.judge,
            prefix.draws,
            position,
            prefix.stop_ids,
        )
        prefix.ids += tokens[: verdict.accepted]
        # Drafts that fell are rolled back by the next forward, which keeps `ran` positions.
        prefix.ran = min(first + count - 1, len(prefix.ids))
        if verdict.token is not None:
            prefix.ids.append(verdict.token)
        prefix.row = None
        self._epoch += verdict.accepted < len(drafts)
        self._bonus = verdict.token if verdict.accepted == len(drafts) else None
        cost = prefix.bill(forwarded)
        # Before the verdict is written, figures and all: it travels while the engine runs.
        prefix.run_on(request.run_on, self._codec.judge)
        figures = [judgement.figures() for judgement in verdict.judgements]
        return pb.Verdict(
            round=request.round,
            accepted=verdict.accepted,
            token_id=verdict.token,
            y_d=[told.y_d for told in figures],
            reject_probability=[p for told in figures if (p := told.reject_probability) is not None],
            total_variation=[tv for told in figures if (tv := told.total_variation) is not None],
            skipped_reject_probability=risk,
            cost=cost,
        )

    async def _audit_ahead(self, request: pb.Upload, unsent: list[int]) -> tuple[list[float], Forwarded | None]:
        """Audit all but the last AUDIT_ROWS tokens, as many at a time: a row takes V floats, and others wait for it."""
        prefix = self._prefix
        risk: list[float] = []
        spent: Forwarded | None = None
        while len(request.audit) - len(risk) > AUDIT_ROWS:
            first = len(prefix.ids) + len(unsent) - len(request.audit) + len(risk)
            stop = first + AUDIT_ROWS - 1
            rows, forwarded = await prefix.rows(unsent, first, AUDIT_ROWS, self._codec.judge, stop)
            assert forwarded is not None, "more rows than the one at hand were asked for"
            risk += self._risk(request, len(risk), rows)
            prefix.ran, prefix.row = stop, None
            spent = forwarded if spent is None else spent.plus(forwarded)
        return risk, spent

    def _risk(self, request: pb.Upload, start: int, rows: npt.NDArray[np.float32]) -> list[float]:
        """Return the rejection probability of audited tokens from number `start` on, one a row."""
        audited = slice(start, start + len(rows))
        return skipped_risk(
            request.audit[audited], request.skipped_ids[audited], map(self._sampling.distribution, rows)
        )

    async def _judge_tree(self, request: pb.Upload, unsent: list[int]) -> pb.Verdict:
        tokens, parents = self._tree_tokens(request), list(request.parents)
        check_siblings(tokens, parents)
        await self._prefix.settle(more=True)
        tree = OpenTree(request.epoch, request.first_position, tuple(tokens), tuple(parents))
        return await self._walk(request, tree, [*self._prefix.ids, *unsent], ROOT)

    async def _continue_tree(self, request: pb.Upload) -> pb.Verdict:
        """Take more nodes of the tree judged last; judge what hangs from the LLM's last draw, if that is among them."""
        check_continuation(request)
        check_count(request)
        tokens = self._tree_tokens(request)
        if self._tree is None or request.epoch != self._tree.epoch:
            return pb.Verdict(round=request.round, stale=True)
        tree = self._tree.with_more(request, tokens)
        root = tree.after(self._prefix.ids[-1])
        if root is None:
            self._tree = tree
            return pb.Verdict(round=request.round, stale=True)
        return await self._walk(request, tree, self._prefix.ids, root)

    def _tree_tokens(self, request: pb.Upload) -> list[int]:
        if self._codec.judge is not Judge.COUPLED:
            raise InvalidRequestError(
                f"a tree is judged by the LLM's own draws: open the session with the codec coupled, not {self._codec.name}"
            )
        return [self._codec.decode(draft.payload).token for draft in request.drafts]

    async def _walk(self, request: pb.Upload, tree: OpenTree, ids: list[int], root: int) -> pb.Verdict:
        """Judge what hangs from the node `root` of a tree, which is the end of `ids`."""
        prefix = self._prefix
        nodes = tree.below(root)
        tokens, parents = tree.hanging(root, nodes)
        check_ids(self._engine, [], len(ids) + max(depths(parents), default=-1) + 1)
        trunk = ids[prefix.ran :]
        # The roots hang from the last id: it is run with them, or its row is at hand.
        whole = [*range(ROOT, len(trunk) - 1), *(len(trunk) + parent for parent in parents)]
        wanted = len(tokens) + bool(trunk)
        forwarded = await prefix.forward([*trunk, *tokens], wanted, Judge.COUPLED, len(ids), whole)
        rows = forwarded.rows
        if not trunk:
            assert prefix.row is not None, "with nothing to run, the last row is at hand"
            rows = np.concatenate([prefix.row[np.newaxis], rows])
        stop_ids, sampling = prefix.stop_ids, self._sampling
        verdict = verify_tree(
            tokens, parents, lambda node: Row(rows[node + 1], sampling), prefix.draws, len(ids), stop_ids
        )
        end = verdict.path[-1] if verdict.path else ROOT
        prefix.path = [*range(len(trunk)), *(len(trunk) + node for node in verdict.path)]
        prefix.ids = [*ids, *(tokens[node] for node in verdict.path)]
        prefix.ran, prefix.row = len(prefix.ids), rows[end + 1].copy()
        if verdict.token is not None:
            prefix.ids.append(verdict.token)
            prefix.row = None
            self._epoch += end in parents
        self._bonus = None if end in parents else verdict.token
        going_on = verdict.token is not None and verdict.token not in stop_ids
        self._tree = replace(tree, end=nodes[end] if verdict.path else root) if going_on else None
        return pb.Verdict(
            round=request.round,
            accepted=len(verdict.path),
            path=[nodes[node] for node in verdict.path],
            token_id=verdict.token,
            y_d=verdict.y_d,
            cost=prefix.bill(forwarded),
        )

    async def _generate(self, request: pb.Upload, unsent: list[int]) -> AsyncIterator[pb.Verdict]:
        prefix = self._prefix
        await prefix.settle(more=bool(unsent))
        prefix.ids.extend(unsent)
        self._bonus = None
        limit = min(request.generate, self._engine.max_context - len(prefix.ids))
        async with contextlib.aclosing(write(prefix, self._sampling, limit, request.stream_interval)) as writing:
            async for tokens, last, forwarded in writing:
                *earlier, token = tokens
                cost = prefix.bill(forwarded)
                yield pb.Verdict(round=request.round, written_ids=earlier, token_id=token, last=last, cost=cost)
