"""The plan of memory against what a process takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Linux forgets the peak of a process when 5 is written there, see proc(5).
CLEAR = Path("/proc/self/clear_refs")

MEASURE = """
import re, sys, warnings
from pathlib import Path
from videogen.pipelines.loading import load
from videogen.pipelines.memory import MemoryPlan

warnings.simplefilter("ignore")
pipeline, plans = load(sys.argv[1]), []
check = MemoryPlan.check
MemoryPlan.check = lambda plan, *arguments: plans.append(plan) or check(plan, *arguments)
steps = {"num_inference_steps": 1} if sys.argv[1] in ("embedded", "dit") else {}
size = {"height": int(sys.argv[2]), "width": int(sys.argv[2])}
status = Path("/proc/self/status")
kilobytes = lambda name: int(re.search(rf"^{name}:\\s*(\\d+)", status.read_text(), re.M)[1])
pipeline("a red circle", seed=1, **steps)
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
pipeline("a red circle", seed=1, output_type=sys.argv[3], **size, **steps)
peak = 1024 * (kilobytes("VmHWM") - before)
print("ratio", (plans[-1].frames + plans[-1].latents) / peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR.exists(), reason="needs the /proc of Linux")
@pytest.mark.parametrize(
    ("model", "size", "output_type"),
    [("embedded", 256, "np"), ("embedded", 384, "latent"), ("dit", 384, "latent"), ("vae", 384, "latent")],
)
def test_the_plan_is_about_what_is_taken(model: str, size: int, output_type: str) -> None:
    command = [sys.executable, "-c", MEASURE, model, str(size), output_type]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^ratio (\S+)", result.stdout, re.MULTILINE)
    assert found is not None, result.stderr
    assert 0.5 < float(found[1]) < 2
