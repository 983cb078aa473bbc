"""The scripts under ``benchmarks`` that measure speed and memory: their parts are right, and one runs as a whole."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType

from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import WHOLE
from magicmirror.training.predicted_latents import PredictedLatents
from magicmirror.training.vae_objective import as_pixels
from tests.tiny_training import build_trainable, make_batch, make_config


@pytest.fixture(scope="module")
def script(repository):
    """Import a script as it imports its neighbours: with its folder on the path."""
    sys.path.insert(0, str(repository / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(repository / "benchmarks"))


def test_spread_is_median_and_quartiles(script):
    record = script("record")
    found = record.spread([4.0, 1.0, 3.0, 2.0, 100.0])
    assert (found["median"], found["runs"]) == (3.0, 5)
    assert 1.0 <= found["low"] <= 2.0 and 4.0 <= found["high"] <= 100.0
    assert record.spread([2.0, 1.0]) == {"median": 1.5, "low": 1.0, "high": 2.0, "runs": 2}


def test_record_says_where_it_was_measured(script, tmp_path):
    written = script("record").finish("test", {"steps": 2}, {"seconds": 1.5}, tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == written
    assert written["commit"] and written["versions"]["torch"] == torch.__version__
    assert {"processor", "threads", "load_1_min", "cores_allowed"} <= written["machine"].keys()
    assert (written["settings"], written["results"]) == ({"steps": 2}, {"seconds": 1.5})


def test_exponents_and_psnr_of_known_values(script):
    assert script("scaling").slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)
    black, grey = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 51, np.uint8)
    psnr = script("caches").psnr
    assert psnr(black, black) == np.inf and psnr(black, grey) == pytest.approx(20 * np.log10(5))


def test_stock_and_ours_share_their_weights_and_differ_by_the_identity(script):
    models, overhead = script("random_models"), script("overhead")
    size = models.reduced(heads=2, layers=2, frames=1, height=8, width=8)
    contest = overhead.Contest(size, torch.device("cpu"), steps=2)
    assert contest.stock.proj_out.weight.data_ptr() == contest.ours.proj_out.weight.data_ptr()
    with torch.no_grad():
        stock, ours = contest.stock_step(), contest.our_step()
        assert stock.shape == ours.shape == (2, 1, 16, 8, 8) and not torch.equal(stock, ours)
        assert torch.equal(stock, contest._step(contest.ours))
        loops = contest.stock_loop(), contest.our_loop(), contest.our_loop(precompute=False)
    assert loops[0].shape == loops[1].shape and not torch.allclose(loops[0], loops[1], atol=1e-3)
    torch.testing.assert_close(loops[1], loops[2], rtol=0, atol=1e-4)
    assert 1.0 < overhead.counted_work(contest) < 3.0
    padded = overhead.Contest(size, torch.device("cpu"), steps=2, attention="padded")
    with torch.no_grad():
        assert torch.equal(padded.stock_step(), stock)  # the choice is ours alone
        changed = padded.our_step()
    assert not torch.equal(changed, ours)
    torch.testing.assert_close(changed, ours, rtol=0, atol=1e-4)


def test_compiled_models_are_compared_and_their_work_counted(script, monkeypatch, capsys, tmp_path):
    """As a command: counting operations and compiled blocks do not bear each other."""
    models, overhead = script("random_models"), script("overhead")
    tiny = models.reduced(heads=2, layers=2, frames=1, height=8, width=8)
    monkeypatch.setattr(models, "reduced", lambda: tiny)
    monkeypatch.setattr(overhead, "keep_freed_memory", lambda: None)  # for a whole process, which is pytest's here
    # Traced as ever; making machine code of it would take a quarter of a minute.
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **kw: compile_module(self, backend="eager", **kw))
    written = tmp_path / "record.json"
    arguments = ["--compile", "--attention", "padded", "--runs", "1", "--loops", "0", "--json", str(written)]
    monkeypatch.setattr(sys, "argv", ["overhead.py", *arguments])
    overhead.main()
    found = json.loads(written.read_text())
    assert found["settings"]["compile"] and found["settings"]["attention"] == "padded"
    assert 1.0 < found["results"]["work_ratio"] < 3.0 and found["results"]["step"]["ratio"]["median"] > 0
    assert "| step |" in capsys.readouterr().out


def test_shares_count_every_kernel_of_a_gpu_once(script):
    """The profiler lists a kernel at the operation that started it, by itself, and in the ranges around it."""
    breakdown = script("breakdown")

    def event(key, device, total, own):
        times = {f"{prefix}{kind}_time_total": 0.0 for prefix in ("", "self_") for kind in ("cpu", "device")}
        times |= {"device_time_total": total * 1e6, "self_device_time_total": own * 1e6}
        return SimpleNamespace(key=key, device_type=device, **times)

    host, gpu = DeviceType.CPU, DeviceType.CUDA
    events = [
        event(breakdown.PARTS + "feed-forward", host, 3.0, 0.0),
        event("aten::linear", host, 3.0, 0.0),
        event("aten::addmm", host, 3.0, 3.0),
        event("aten::add", host, 1.0, 1.0),
        event(breakdown.PARTS + "feed-forward", gpu, 3.5, 3.5),
        event("gemm_bf16", gpu, 3.0, 3.0),
        event("add_kernel", gpu, 1.0, 1.0),
    ]
    parts, operations = breakdown.shares(events, on_gpu=True)
    assert parts.pop("feed-forward") == 3.0 and list(parts.values()) == [1.0]
    assert {name: time for name, time in operations.items() if time} == {"aten::addmm": 3.0, "aten::add": 1.0}


@pytest.fixture
def full_size(script, monkeypatch, tmp_path):
    """The script with a folder of benchmarks of its own, and a figure for each of them."""
    module = script("full_size")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "full_size.py"))
    (tmp_path / "good.py").write_text("import sys\nopen(sys.argv[-1], 'w').write('{}')\nprint('a table')\n")
    (tmp_path / "bad.py").write_text("raise SystemExit('no kernel for this device')\n")
    (tmp_path / "child.py").write_text(
        "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, __file__.replace('slow', 'child'), sys.argv[1]])\n"
    )
    return module


def test_what_fails_or_lasts_too_long_stops_no_other_figure(full_size, tmp_path, capsys):
    figure, pid = full_size.Figure, tmp_path / "pid"
    figures = [figure("bad", ("bad.py",)), figure("slow", ("slow.py", str(pid)), 3.0), figure("good", ("good.py",))]
    out = tmp_path / "out"
    became = [became for _, became, _ in full_size.measure_all(figures, out, minutes=1)]
    assert became == ["failed (1): no kernel for this device", "stopped after 3 s", "measured"]
    assert (out / "good.json").read_text() == "{}" and (out / "good.log").read_text() == "a table\n"
    assert not _runs(int(pid.read_text()))  # what it had started has ended too
    again = full_size.measure_all(figures[2:], out, minutes=0)
    assert again[0][1] == "was there" and "good: measured" in capsys.readouterr().out


def test_figures_wait_for_the_next_time_when_the_minutes_are_over(full_size, tmp_path):
    now = iter([0.0, 0.0, 61.0, 61.0, 61.0])
    figures = [full_size.Figure(name, ("good.py",)) for name in ("first", "second")]
    rows = full_size.measure_all(figures, tmp_path / "out", 1, lambda: next(now))
    assert [row[:2] for row in rows] == [("first", "measured"), ("second", "not begun")]
    assert not (tmp_path / "out" / "second.log").exists()


def test_every_figure_at_full_size_names_options_that_its_benchmark_has(script, monkeypatch, capsys):
    """Each command is read by its own parser, up to the GPU that is missing here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for figure in script("full_size").FIGURES:
        name, *arguments = figure.command
        monkeypatch.setattr(sys, "argv", [name, *arguments, "--json", "nowhere"])
        with pytest.raises(SystemExit) as ended:
            script(name.removesuffix(".py")).main()
        said = f"{ended.value.code} {capsys.readouterr().err}"
        assert "needs a CUDA device" in said or "needs a GPU" in said, (figure.name, said)


def _runs(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_rungs_stand_on_each_other_and_one_that_fails_stops_none(script):
    speedups = script("speedups")
    ladder = speedups.Ladder(speedups.find_profile("preview"), full=False)
    rungs = ("eager", "_native_math", "mag", "no-such-word", "eager")
    plain, kernel, cached, failed, again = speedups.climbed(ladder, [(rung, 4) for rung in rungs])
    assert "ConfigError" in failed["failed"] and failed["rung"] == "no-such-word"
    assert plain["decode_s"] > 0 and plain["difference"] == 0.0 and "decode_s" not in again
    assert kernel["difference"] < 1e-3
    assert cached["difference"] == again["difference"] > 1e-2


def test_a_clip_is_taken_apart_into_what_training_would_predict_of_it(script, monkeypatch):
    """Two steps are those of a request; a strip has every second frame of each estimate."""
    strips, trainable = script("clip_strips"), build_trainable()
    batch = make_batch(trainable.tokenizer, rows=1)
    monkeypatch.setattr(strips, "rows_of", lambda folder, motion, count: [batch] * count)
    config = make_config(guidance_scale=strips.GUIDANCE, requested_share=1.0, critic_weight=1.0)
    objective = identity_objective(trainable, config).eval()
    own, one, two, noised = strips.estimates(objective, trainable.tokenizer, batch)
    assert torch.equal(own, batch["latents"])
    scale = trainable.vae.config.scaling_factor
    request = PredictedLatents(objective, scale, config)
    of_vae = own.transpose(1, 2) / scale
    wanted, requested = request(of_vae, batch, torch.Generator().manual_seed(0), WHOLE)
    assert bool(requested.all())
    torch.testing.assert_close(two, wanted.transpose(1, 2) * scale, rtol=1e-4, atol=1e-5)
    # Nothing of the clip is known at first; of the second step's noise half a clip is.
    errors = [(each - own).square().mean().item() for each in (one, two, noised)]
    assert errors[2] < 0.8 * min(errors[:2])

    picture, lines = strips.strips(trainable, None, ["nod", "smile"], clips=1)
    assert picture.shape == (2 * 4 * 32, 5 * 32, 3) and picture.dtype == np.uint8
    shown = as_pixels(trainable.vae.decode(1 / scale * own.transpose(1, 2)).sample)[0].detach().numpy()
    assert np.array_equal(picture[:32], np.concatenate(list(shown[::2]), axis=1))
    assert [line[:2] for line in lines] == [[motion, row] for motion in ("nod", "smile") for row in strips.ROWS]
    assert lines[0][2] == "0.000 0.000 0.000"


@pytest.mark.parametrize(
    "name", ["overhead", "memory", "scaling", "breakdown", "preview", "caches", "page", "speedups", "training"]
)
def test_every_benchmark_tells_its_commands(script, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script(name).main()
    shown = capsys.readouterr().out
    assert f"python benchmarks/{name}.py" in shown and "--json" in shown
