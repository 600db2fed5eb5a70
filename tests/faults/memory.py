"""Memory and handles of a long training with workers, and of many pages: both must be flat."""

import argparse
import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Of the memory after the first epoch.
_GROWTH = 0.02
_TRAINING = (
    "landmarks --data.num-images 100 --data.input-size 32 32 --model.channels 8 8 --optimizer.batch-size 8 "
    "--optimizer.steps 100000000 --trainer.num-workers 2 --trainer.validate-every 1 --trainer.no-progress "
    "--trainer.save-seconds 0 --trainer.accelerator cpu --out run"
)


def watch(minutes):
    """Watch a training for some minutes, then the pages; print what was measured, and return whether it grew."""
    grew = watch_training(minutes)
    return watch_pages(30 if minutes < 10 else 200) or grew


def watch_training(minutes):
    """Train with two workers, stop by SIGTERM, and compare the ends."""
    with tempfile.TemporaryDirectory(prefix="pcsa-memory-") as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "pcsa.scripts.cli", "train", *_TRAINING.split()],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun = time.monotonic()
        samples = []
        checkpoint = Path(folder, "run", "last.ckpt")
        try:
            while process.poll() is None and time.monotonic() - begun < 60 * minutes:
                time.sleep(min(1.0, 60 * minutes / 100))
                if checkpoint.exists():
                    samples.append(_measure(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=600)
        if process.returncode != 128 + signal.SIGTERM:
            print(f"memory: the training ended with status {process.returncode}: {said[-500:]}")
            return True
        import torch

        steps = torch.load(checkpoint, weights_only=True)["global_step"]
    # The first epoch ends with a checkpoint; what it has begun with is still on its way out.
    samples = [sample for sample in samples[len(samples) // 10 :] if sample]
    return _compare(f"training with 2 workers, {minutes:g} minutes, {steps} steps", samples)


def watch_pages(count):
    """Write a report and a page of clouds many times in one process."""
    done = subprocess.run(
        [sys.executable, __file__, "--pages", str(count)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    samples = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    if done.returncode or len(samples) != count:
        print(f"memory: the pages ended with status {done.returncode}")
        return True
    # What is drawn with is loaded by the first ones.
    return _compare(f"{count} reports and pages", samples[count // 3 :])


def _compare(what, samples):
    if len(samples) < 5:
        print(f"memory: {what}: only {len(samples)} samples")
        return True
    # What a checkpoint takes for a moment is no growth.
    part = max(2, len(samples) // 3)
    first, last = (min(memory for memory, _ in some) for some in (samples[:part], samples[-part:]))
    handles = [min(count for _, count in some) for some in (samples[:part], samples[-part:])]
    growth = last / first - 1
    grew = growth > _GROWTH or handles[1] > handles[0]
    print(
        f"memory: {what}: {first / 2**20:.0f} MiB, then {last / 2**20:.0f} MiB ({growth:+.2%}); "
        f"handles {handles[0]}, then {handles[1]}{': IT GROWS' * grew}",
        flush=True,
    )
    return grew


def _measure(pid):
    """Bytes of a process and its children, what they share counted once, and their handles; None at its end."""
    family = [pid, *_children(pid)]
    try:
        memory = sum(_pss(one) for one in family)
        return memory, sum(len(os.listdir(f"/proc/{one}/fd")) for one in family)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _children(pid):
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(other for one in children for other in _children(one))]


def _pss(pid):
    # Without the pages of files: a process's share of a library grows when another one that has it, too, ends.
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(1024 * int(words[1]) for words in lines if words[0] in ("Pss_Anon:", "Pss_Shmem:"))


def pages(count):
    """Write pages and pictures, and say after each what this process holds."""
    import torch

    from pcsa.scripts.cli import main
    from pcsa.viz.html import save_html
    from pcsa.viz.scene import keypoint_scene

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("run/log/version_0").mkdir(parents=True)
        rows = "".join(f"{step},{step // 10},{1 / (step + 1)}\n" for step in range(1000))
        Path("run/log/version_0/metrics.csv").write_text(f"step,epoch,loss\n{rows}")
        for _ in range(count):
            with contextlib.redirect_stdout(io.StringIO()):
                assert main(["report", "run", "--out", "page"]) == 0
            clouds = [keypoint_scene(torch.rand(1000, 3), torch.randn(1000, 4)) for _ in range(3)]
            save_html("clouds.html", clouds)
            # What refers to itself waits for its turn.
            gc.collect()
            print(_pss(os.getpid()), len(os.listdir("/proc/self/fd")), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int)
    parser.add_argument("--minutes", type=float, default=3)
    options = parser.parse_args()
    if options.pages:
        pages(options.pages)
    else:
        sys.exit(watch(options.minutes))
