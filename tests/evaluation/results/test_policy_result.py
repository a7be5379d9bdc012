"""Results: totals and ratios worked out by hand, the null rules, and the paper's energy and throughput."""

import json

import pytest

from uihlm_evaluation.quality.answers import AnswerScore
from uihlm_evaluation.results.policy_result import PolicyResult, summarise
from uihlm_evaluation.results.totals import Bill, Totals
from uihlm_evaluation.runs.rows import Row
from uihlm_evaluation.runs.samples import Sample, Stop
from uihlm_proto.errors import InvalidRequestError
from uihlm_wireless.energy import JouleProfile

V = 100
FIELDS = [
    "policy", "row", "k", "gamma", "theta_u", "theta_c", "rate",
    "prompts", "tokens", "uploaded", "rejected", "upload_rate", "reject_rate", "acceptance_rate",
    "bertscore_f1", "cosine_similarity", "bertscore_f1_llm", "cosine_similarity_llm", "exact_match",
    "last_number_accuracy", "llm_log_prob", "tv", "energy_saving_ratio", "energy_j", "throughput_tok_s",
    "throughput_paper_tok_s", "latency_s",
    "llm_forwards_per_token", "llm_positions_per_token", "bs_busy_s", "model_bits", "payload_bits", "wire_bytes",
    "skipped_risk", "audit_coverage", "audit_bits", "audit_rows", "outage_tokens", "lost_links",
    "transmit_j", "device_j", "basestation_j", "measured_j", "measured_device_j", "measured_basestation_j",
    "measured_machine_j",
]  # fmt: skip


def sample(policy, prompt, tokens, uploaded=0, rejected=0, **changes):
    values = {
        "text": "", "reference": "", "stop": Stop.EOS, "model_bits": uploaded * V * 32, "payload_bits": uploaded * 40,
        "wire_bytes": uploaded * 9, "latency_s": 2.0, "draft_s": 0.5, "forward_s": 0.0, "queue_s": 0.0, "link_s": 0.0,
        "airtime_s": 0.25, "llm_forwards": uploaded + 1, "llm_positions": 10 + tokens, "bs_busy_s": 0.125,
    }  # fmt: skip
    return Sample(policy, prompt, tokens=tokens, uploaded=uploaded, rejected=rejected, **{**values, **changes})


def failed(policy, prompt):
    return sample(policy, prompt, 50, 50, 50, stop=Stop.ERROR, error="link lost", latency_s=999.0)


HLM = [sample("hlm", 0, 60, 60, 20), sample("hlm", 1, 40, 40, 9)]
BILL = Bill(V, Totals.of(HLM), JouleProfile(transmit_w=2.0, device_w=10.0, basestation_w=100.0))


def test_fields_are_those_of_results_json_in_order():
    result = summarise(Row.of("hlm"), HLM, None, BILL)
    assert list(result.to_json()) == FIELDS
    assert PolicyResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    with pytest.raises(InvalidRequestError, match="unknown"):
        PolicyResult.from_json({**result.to_json(), "colour": 1})


def test_rates_are_ratios_of_totals_and_costs_are_totals():
    u = [sample("u", 0, 90, 30, 9), sample("u", 1, 10, 10, 10, latency_s=6.0)]
    result = summarise(Row.of("u"), u, None, BILL)
    assert (result.prompts, result.tokens, result.uploaded, result.rejected) == (2, 100, 40, 19)
    assert result.upload_rate == pytest.approx(0.4)  # the mean of the prompts' rates would be 0.67
    assert result.reject_rate == pytest.approx(19 / 40)
    assert result.acceptance_rate == pytest.approx(21 / 40)
    assert result.throughput_tok_s == pytest.approx(100 / 8)
    assert (result.latency_s.mean, result.latency_s.low, result.latency_s.high) == (4.0, 2.0, 6.0)
    assert result.llm_forwards_per_token == pytest.approx(42 / 100)
    assert result.llm_positions_per_token == pytest.approx(120 / 100)
    assert (result.model_bits, result.payload_bits, result.wire_bytes) == (40 * V * 32, 1600, 360)
    assert result.bs_busy_s == pytest.approx(0.25)
    assert result.energy_j == pytest.approx(2.0 * 0.5 + 10.0 * 1.0 + 100.0 * 0.25)


def test_saving_and_throughput_of_the_paper_come_out():
    """Table I: η of the SLM 69.5 % with HLM rejecting 29.11 %; λ 0.53 and 0.25; λ of U 0.36 at 42.06 % uploads."""
    hlm = [sample("hlm", 0, 10000, 10000, 2911)]
    bill = Bill(V, Totals.of(hlm))
    slm = summarise(Row.of("slm"), [sample("slm", 0, 500)], None, bill)
    assert slm.energy_saving_ratio == pytest.approx(0.695, abs=5e-4)
    assert slm.throughput_paper_tok_s == pytest.approx(0.53, abs=5e-3)
    own = summarise(Row.of("hlm"), hlm, None, bill)
    assert own.energy_saving_ratio == pytest.approx(0.0)
    assert own.throughput_paper_tok_s == pytest.approx(0.25, abs=5e-3)
    u = summarise(Row.of("u"), [sample("u", 0, 10000, 4206, 2296)], None, bill)
    assert u.throughput_paper_tok_s == pytest.approx(0.36, abs=5e-3)


def test_hlm_is_billed_in_full_whatever_its_codec():
    cheap = [sample("hlm", 0, 100, 100, 29, model_bits=1600)]
    assert summarise(Row.of("hlm"), cheap, None, Bill(V, Totals.of(cheap))).energy_saving_ratio == pytest.approx(
        1 - (0.42 * 300 * 0.005 + 0.29 * 350 + 100) / (0.42 * 300 + 0.29 * 350 + 100)
    )


def test_llm_has_no_uploads_and_no_device_side_figures():
    llm = summarise(Row.of("llm"), [sample("llm", 0, 20, llm_forwards=20)], None, BILL)
    assert (llm.uploaded, llm.rejected, llm.upload_rate) == (0, 0, 0.0)
    nulls = (llm.reject_rate, llm.acceptance_rate, llm.energy_saving_ratio, llm.throughput_paper_tok_s)
    assert nulls == (None, None, None, None)
    assert llm.skipped_risk == 0.0
    assert llm.llm_forwards_per_token == 1.0
    assert llm.throughput_tok_s == 10.0


def test_rates_of_the_uploaded_are_null_without_uploads():
    slm = summarise(Row.of("slm"), [sample("slm", 0, 20)], None, BILL)
    assert (slm.upload_rate, slm.reject_rate, slm.acceptance_rate) == (0.0, None, None)


def test_saving_is_null_without_an_hlm_row():
    assert summarise(Row.of("slm"), [sample("slm", 0, 20)], None, Bill(V)).energy_saving_ratio is None


def test_skipped_risk_needs_an_audit_of_every_prompt():
    audited = [sample("u", 0, 30, 10, 2, skipped_risk_sum=1.5), sample("u", 1, 10, 5, 1, skipped_risk_sum=0.5)]
    assert summarise(Row.of("u"), audited, None, BILL).skipped_risk == pytest.approx(2.0 / 40)
    assert summarise(Row.of("u"), [*audited, sample("u", 2, 10, 5, 1)], None, BILL).skipped_risk is None
    assert summarise(Row.of("hlm"), HLM, None, BILL).skipped_risk == 0.0


def test_failed_prompts_change_nothing():
    scores = [AnswerScore(0.5, 0.25), AnswerScore(0.75, 0.5)]
    whole = summarise(Row.of("hlm"), HLM, scores, BILL)
    assert summarise(Row.of("hlm"), [*HLM, failed("hlm", 2)], [*scores, AnswerScore(0.0, 0.0)], BILL) == whole
    assert whole.bertscore_f1.mean == pytest.approx(0.625)
    assert whole.cosine_similarity.mean == pytest.approx(0.375)


def test_run_in_which_all_failed_has_totals_of_zero_and_no_rates():
    result = summarise(Row.of("u"), [failed("u", 0)], [AnswerScore(0.0, 0.0)], BILL)
    assert (result.prompts, result.tokens, result.energy_j) == (0, 0, 0.0)
    for name in (
        "upload_rate",
        "bertscore_f1",
        "throughput_tok_s",
        "throughput_paper_tok_s",
        "latency_s",
        "skipped_risk",
    ):
        assert getattr(result, name) is None, name


def test_prompts_without_reference_are_left_out_of_quality_alone():
    result = summarise(Row.of("hlm"), HLM, [AnswerScore(None, None), AnswerScore(0.5, 0.25)], BILL)
    assert (result.prompts, result.bertscore_f1.mean) == (2, 0.5)


def test_samples_that_do_not_belong_are_refused():
    with pytest.raises(InvalidRequestError, match="samples of u among those of hlm"):
        summarise(Row.of("hlm"), [*HLM, sample("u", 2, 1)], None, BILL)
    with pytest.raises(InvalidRequestError, match="occurs twice"):
        summarise(Row.of("hlm"), [*HLM, HLM[0]], None, BILL)
    with pytest.raises(InvalidRequestError, match="1 scores for 2 samples"):
        summarise(Row.of("hlm"), HLM, [AnswerScore(0.5, 0.5)], BILL)
