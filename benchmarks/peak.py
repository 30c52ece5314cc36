"""Which share of a core's peak the network of a recipe reaches: `python -m benchmarks.peak`.

The peak is that of torch's own product of two large matrices in float32, in the same rounds. Operations are counted by
`torch.utils.flop_counter`: products and sums of convolutions and matrix products, nothing else.
"""

import argparse
import statistics

import torch
from torch.utils.flop_counter import FlopCounterMode

from .inputs import load_inputs
from .timing import Workload, elapsed
from .training import TrainingStages

SIZE = 1024  # of the matrices


def main() -> None:
    """Prints operations, time and share of peak of the forward and the backward pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder of audio files (default: a synthetic corpus)")
    parser.add_argument("--config", default="configs/cnn2d.yaml", help="recipe (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=64, help="batch size (default: 64)")
    parser.add_argument("--rounds", type=int, default=7, help="medians of so many rounds (default: 7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    inputs = load_inputs(arguments.root, arguments.clips, 3.0, torch.device("cpu"))
    run = TrainingStages(arguments.config).run_on(inputs)
    features = run.features(*run.augment(inputs.waveform.clone(), inputs.lengths))
    with FlopCounterMode(display=False) as counter:
        loss = run.loss(*features)
        operations = {"forward": counter.get_total_flops()}
        loss.backward()
        operations["backward"] = counter.get_total_flops() - operations["forward"]
    left, right = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    workloads = {
        "matrix product": Workload(lambda: left @ right, 1),
        "forward": Workload(lambda: run.loss(*features), 1),
        "backward": Workload(lambda loss: loss.backward(), 1, lambda: (run.loss(*features),)),
    }
    operations["matrix product"] = 2 * SIZE**3
    seconds: dict[str, list[float]] = {name: [] for name in workloads}
    for _ in range(arguments.rounds):
        for name, workload in workloads.items():
            seconds[name].append(elapsed(workload, "cpu"))
    rates = {name: operations[name] / statistics.median(spent) / 1e9 for name, spent in seconds.items()}
    print("| | GFLOP per batch | CPU ms | GFLOP/s | share of peak |\n|---|---|---|---|---|")
    for name, rate in rates.items():
        spent = statistics.median(seconds[name]) * 1e3
        share = 100 * rate / rates["matrix product"]
        print(f"| {name} | {operations[name] / 1e9:.2f} | {spent:.1f} | {rate:.1f} | {share:.0f} % |")


if __name__ == "__main__":
    main()
