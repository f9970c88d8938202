# SPDX-License-Identifier: MIT
#
# tensorboard_read.py FOLDER: what TensorBoard's own package reads from a folder of event files, as JSON; status 77 without it.
import json
import math
import sys

try:
    from tensorboard.backend.event_processing import event_accumulator
except ImportError:
    sys.exit(77)


def number(x):
    return x if math.isfinite(x) else "NaN"


found = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "histograms": 0})
found.Reload()
tags = found.Tags()
print(json.dumps({
    "scalars": {tag: [[e.step, number(e.value)] for e in found.Scalars(tag)] for tag in tags["scalars"]},
    "histograms": {tag: [dict(step=e.step, min=e.histogram_value.min, max=e.histogram_value.max, num=e.histogram_value.num,
                              sum=e.histogram_value.sum, sum_squares=e.histogram_value.sum_squares,
                              limits=list(e.histogram_value.bucket_limit), counts=list(e.histogram_value.bucket))
                         for e in found.Histograms(tag)] for tag in tags["histograms"]},
}))
