# SPDX-License-Identifier: MIT
#
# trace_numpy.py: writes trace_numpy.json beside it: the regression problems that NumPy's generator draws with the paper's seeds 11
# to 13. The bias depends on the problem: other draws differ from these by a factor of several, so that the paper's figures can
# be compared with these alone. Needs NumPy; run once, the result is kept with the sources.
import json
import pathlib

import numpy as np

SIDE, TERMS, NOISE = 3, 10, 0.01


def draw(seed):
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(TERMS):
        q, _ = np.linalg.qr(rng.standard_normal((SIDE, SIDE)))
        matrices.append((q * rng.uniform(0.5, 1.5, size=SIDE)) @ q.T)
    matrices = np.array(matrices).reshape(TERMS, -1)
    target = rng.standard_normal((SIDE, SIDE))
    observed = matrices @ target.reshape(-1) + NOISE * rng.standard_normal(TERMS)
    return {"A": matrices.tolist(), "b": observed.tolist()}


problems = {str(seed): draw(seed) for seed in (11, 12, 13)}
text = json.dumps(problems).replace("]], ", "]],\n ").replace("}, ", "},\n").replace("], [", "],\n [")
pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")
