"""`chat --policy auto`: the plan chooses how each answer is written, from what the last answers took."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import replace

from uihlm_cli.assembly import Device
from uihlm_device.conversation import Conversation
from uihlm_device.decode_settings import DecodeSettings
from uihlm_device.decoder import Decoder
from uihlm_device.drafters.drafter import TreeDrafter
from uihlm_device.outages.outage import PATIENCE_S, OnOutage
from uihlm_device.rules.policies import PolicySettings, policy
from uihlm_device.tokens import Origin, TokenRecord
from uihlm_evaluation.calibration.profile import Profile
from uihlm_evaluation.planning.auto import Auto, Seen, Wish, median_s
from uihlm_evaluation.planning.bundled import bundled_profile, figures_of
from uihlm_evaluation.planning.plan import Objective
from uihlm_evaluation.planning.sizes import Sizes
from uihlm_evaluation.planning.ways import SLM, Family, Way
from uihlm_evaluation.runs.configuration import RunConfig
from uihlm_proto.codecs import codec
from uihlm_proto.errors import UnavailableError
from uihlm_wireless.settings import AirtimeBasis

# How long a lost base station is knocked at before an answer.
_KNOCK_S = 1.0


class Pilot:
    """Writes each answer in the way that the plan thinks best, and learns from it.

    Attributes:
        auto: what it goes by.
        decoder: of the answer under way, or the last one.
    """

    def __init__(self, device: Device, config: RunConfig, objective: Objective, profile: Profile | None) -> None:
        """Prepare from a profile, or the bundled pair's.

        Raises:
            ProfileError: if the profile lacks what a plan needs.
        """
        known = bundled_profile() if profile is None else profile
        coupled = config.codec == "coupled"
        hlm = device.drafter_for(policy("hlm", PolicySettings()))
        self._trees = coupled and isinstance(hlm, TreeDrafter)
        self._device, self._config = device, config
        self._reached = False
        self._decoders: dict[tuple[Way, DecodeSettings, PolicySettings], Decoder] = {}
        self.auto = Auto(
            figures_of(known),
            Sizes(codec(config.codec, device.tokenizer.vocabulary_size)),
            config.link,
            self._wish(objective),
            None if coupled else 1.0 - known.mean_rejection.mean,
        )
        self.decoder = self._decoder(self.auto.way)

    def change(self, config: RunConfig, objective: Objective) -> None:
        """Take over what `/set` changed."""
        self._config = config
        self.auto.change(self._wish(objective))

    @property
    def told(self) -> str:
        """How the next answer is to be written, why, and by what figures: two lines of /stats."""
        return f"  next answer      {self.auto.way}: {self.auto.reason}\n  seen             {self.auto.estimates}"

    def answer(self, conversation: Conversation) -> Generator[TokenRecord]:
        """Write one answer, as `Decoder.answer` does; where the base station is lost for good, the device goes on alone.

        Raises:
            UihlmError: as `Decoder.answer`; of a lost base station only where nothing may go on without it.
        """
        if self.auto.lost and self._device.reaches(_KNOCK_S):
            # The stream that was lost would still pause before it asks again.
            conversation.end_session()
            self.auto.found()
        way, records, stamps_s = self.auto.way, list[TokenRecord](), list[float]()
        opening, before = conversation.open_round, self._device.ledger.totals()
        self._device.ledger.take_late()
        lost = False
        try:
            for record in self._written(conversation, way):
                records.append(record)
                stamps_s.append(self._device.clock.now())
                lost = record.origin is Origin.OUTAGE
                self._reached = self._reached or not lost
                yield record
        finally:
            opened = conversation.open_round != opening
            after = self._device.ledger.totals()
            trips = opened + max((record.round or 0 for record in records), default=0)
            downlink_s = after.downlink_s - before.downlink_s
            late_s = self._device.ledger.take_late()
            alone = way.family is Family.LLM
            # An answer of the LLM alone streams down: its later tokens come late by what came before them.
            waited_s = (min(late_s, default=0.0) if alone else median_s(late_s) or 0.0) + downlink_s / max(
                len(records) if alone else trips, 1
            )
            wire = self._config.link.airtime is AirtimeBasis.WIRE
            self.auto.saw(
                Seen(
                    way,
                    tokens=len(records),
                    trips=trips,
                    link_s=after.rtt_s - before.rtt_s + after.grant_s - before.grant_s + trips * waited_s,
                    airtime_s=after.airtime_s - before.airtime_s,
                    bit=8 * (after.uplink_wire_bytes - before.uplink_wire_bytes)
                    if wire
                    else after.model_bit - before.model_bit,
                    draft_s=_draft_s(way, records),
                    forwards=_forwards(way, records, stamps_s),
                    judged=sum(record.uploaded for record in records) if _judges(way) else 0,
                    accepted=sum(r.origin is Origin.ACCEPTED for r in records) if _judges(way) else 0,
                    lost=lost,
                )
            )

    def _written(self, conversation: Conversation, way: Way) -> Generator[TokenRecord]:
        """Write an answer in a way; where its base station is given up, write the rest alone, marked."""
        self.decoder = self._decoder(way)
        limit, written = self._config.decode.max_tokens, 0
        unchecked = self.auto.lost
        try:
            with contextlib.closing(self.decoder.answer(conversation)) as records:
                for record in records:
                    written += 1
                    yield replace(record, origin=Origin.OUTAGE) if unchecked else record
            return
        except UnavailableError:
            outage = self._config.decode.outage
            may_go_on = outage is not None and outage.on_outage is OnOutage.LOCAL
            # A base station that was never there is a wrong address.
            if not (may_go_on and self._reached and written < limit):
                raise
            conversation.end_session()
        self.decoder = self._decoder(SLM, limit - written)
        with contextlib.closing(self.decoder.answer(conversation)) as records:
            for record in records:
                yield replace(record, origin=Origin.OUTAGE)

    def _decoder(self, way: Way, limit: int | None = None) -> Decoder:
        """Return the decoder of a way: one a way, which keeps what it has learnt."""
        config = self._config
        decode = replace(
            config.decode,
            draft_length=way.draft_length,
            in_flight=way.in_flight,
            run_on=way.run_on,
            tree=way.tree,
            max_tokens=limit or config.decode.max_tokens,
            # The LLM alone has nothing to go on with and waits; here something else goes on in its place.
            outage=config.decode.outage and replace(config.decode.outage, patience_s=self._patience_s),
        )
        rules = config.rules if way.theta_u is None else replace(config.rules, theta_u=way.theta_u)
        key = way, decode, rules
        if key not in self._decoders:
            self._decoders[key] = self._device.decoder(way.policy, rules, decode)
        return self._decoders[key]

    @property
    def _patience_s(self) -> float | None:
        outage = self._config.decode.outage
        if outage is None or outage.on_outage is not OnOutage.LOCAL:
            return None if outage is None else outage.patience_s
        return outage.patience_s or PATIENCE_S[OnOutage.LOCAL]

    def _wish(self, objective: Objective) -> Wish:
        config = self._config
        return Wish(objective, config.decode.risk or 0.0, config.joules, self._trees)


def _draft_s(way: Way, records: Sequence[TokenRecord]) -> float | None:
    """Return a usual step of the drafter; the first one holds the prompt, and a tree's are not told apart."""
    if way.tree:
        return None
    # A token that was corrected carries what was drafted in vain.
    plain = (Origin.LOCAL, Origin.ACCEPTED)
    return median_s([record.draft_s for record in records[1:] if record.origin in plain])


def _forwards(way: Way, records: Sequence[TokenRecord], stamps_s: Sequence[float]) -> list[tuple[int, float]]:
    """Return positions and seconds of the LLM's forwards after the prompt's."""
    if way.family is Family.LLM:
        # The first forward is over what is new of the conversation, and may leave a row for the next token.
        return [(1, (stamps_s[-1] - stamps_s[1]) / (len(stamps_s) - 2))] if len(stamps_s) > 2 else []
    return [(r.llm_positions, r.forward_s) for r in records[1:] if r.llm_forwards == 1]


def _judges(way: Way) -> bool:
    """Return whether a way's verdicts tell the acceptance of drafts as they come."""
    return way.policy == "hlm" and not way.tree
