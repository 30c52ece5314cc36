"""A trace of serx's training step by torch's profiler, for TensorBoard and for Perfetto.

TensorBoard's tab PYTORCH_PROFILER needs the plugin torch-tb-profiler, which is no longer developed; 0.4.3 still loads
the trace beside TensorBoard 2.21. The table of the dearest operations is plain text, which any TensorBoard shows, and
https://ui.perfetto.dev opens the JSON file without either.
"""

from pathlib import Path
from typing import Any

STEPS = 3


def record(work: Any, folder: Path, device: str) -> None:
    """Writes the trace of `STEPS` runs of `work`, and the dearest operations as text that any TensorBoard shows."""
    from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler
    from torch.utils.tensorboard import SummaryWriter

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    handler = tensorboard_trace_handler(str(folder))
    plan = schedule(wait=0, warmup=1, active=STEPS)
    with profile(activities=activities, schedule=plan, on_trace_ready=handler, acc_events=True) as profiler:
        for _ in range(1 + STEPS):
            work.run(*work.before())
            profiler.step()
    table = profiler.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=30)
    with SummaryWriter(str(folder)) as writer:
        writer.add_text("profile/training step", "".join(f"    {line}\n" for line in table.splitlines()))
