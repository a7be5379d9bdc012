"""Is transformers' assisted generation y-distributed?   python -m benchmarks.assisted_generation

The referee hands it a pair of known models, in as many ways of calling `generate` as have a claim of their own, and says
what came out (docs/referee.md).
"""

from __future__ import annotations

import argparse
import time

from uihlm_evaluation.referee.assisted import Assisted
from uihlm_evaluation.referee.verdict import judge

WAYS = {
    "as documented": Assisted(),
    "one draft a round": Assisted(drafts=1),
    "greedy": Assisted(sample=False),
    "assistant_ensemble_weight 0.8 (biased by design)": Assisted(ensemble_weight=0.8),
    "temperature 0.7, judged against y at temperature 1": Assisted(temperature=0.7),
}


def main() -> None:
    """Judge each way, and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=6000, help="that each way writes (default 6000)")
    parser.add_argument("--way", choices=list(WAYS), help="one alone (default: all)")
    given = parser.parse_args()
    for name, decode in WAYS.items():
        if given.way in (None, name):
            started_s = time.perf_counter()
            verdict = judge(decode, given.tokens)
            print(f"\n{name} ({time.perf_counter() - started_s:.0f} s)\n{verdict}", flush=True)


if __name__ == "__main__":
    main()
