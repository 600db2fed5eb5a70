import copy
import io

import numpy as np
import pytest
import torch

import pcsa
from pcsa import grid


@pytest.mark.parametrize(
    "options",
    [
        {"basis_noise": "mixture", "frame": "pixels", "spacing": (4.0, 2.0)},
        {"noise_axes": "marginal", "periodic": iter("x")},  # looked at more than once
        {"form": "released", "frame": "released"},
    ],
)
def test_modules_are_thin(seeded, maps, options):
    logits = maps((3, 4))
    module = grid.SamplingArgmax("gaussian", 3, 0.5, **options)
    options = {**options, "periodic": module.periodic}
    same = grid.sampling_argmax(logits, "gaussian", num_samples=3, temperature=0.5, generator=seeded(), **options)
    assert torch.equal(module(logits, generator=seeded()), same)
    frame = {name: options[name] for name in ("frame", "spacing", "periodic") if name in options}
    # Testing reads the map out as it is: at temperature 1.
    assert torch.equal(module.eval()(logits), grid.soft_argmax(logits, **frame))
    soft = grid.SoftArgmax(0.5, **frame)
    assert torch.equal(soft(logits), grid.soft_argmax(logits, temperature=0.5, **frame))
    assert soft(logits / 0, validate=False).isnan().any()
    assert list(module.parameters()) == []


def test_modules_say_what_they_are():
    assert repr(grid.SoftArgmax(0.5, frame="pixels", spacing=4.0)) == (
        "SoftArgmax(temperature=0.5, frame='pixels', spacing=4.0)"
    )
    assert repr(grid.SamplingArgmax(num_samples=3, periodic="x")) == (
        "SamplingArgmax(basis='triangular', num_samples=3, temperature=1, basis_noise='relaxed', form='paper', "
        "periodic=('x',))"
    )


def test_a_module_follows_its_schedule_and_a_checkpoint_keeps_it(seeded, maps):
    def build():
        schedule = pcsa.TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=4)
        return grid.SamplingArgmax(num_samples=2, temperature=schedule)

    module, logits = build(), maps((3, 4))
    for _ in range(3):
        module.temperature.step()
    wanted = grid.sampling_argmax(logits, num_samples=2, temperature=1.25, generator=seeded())
    assert torch.equal(module(logits, generator=seeded()), wanted)
    file = io.BytesIO()
    torch.save(torch.nn.Sequential(module).state_dict(), file)
    file.seek(0)
    restored = torch.nn.Sequential(build())
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored[0].temperature.value == 1.25
    copied = copy.deepcopy(module)
    copied.temperature.step()
    assert (copied.temperature.value, module.temperature.value) == (1.0, 1.25)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"basis": "box"}, r"`basis` \(='box'\) must be one of"),
        ({"num_samples": 0}, r"`num_samples` \(=0\) must be at least 1"),
        ({"temperature": 0.0}, r"`start` \(=0.0\) must be positive"),
        ({"noise_axes": "joint"}, r"`noise_axes` \(='joint'\) must be 'marginal'"),
        ({"basis_noise": "none"}, r"`basis_noise` \(='none'\) must be one of"),
        ({"form": "official"}, r"`form` \(='official'\) must be one of"),
        ({"frame": "voxels"}, r"`frame` \(='voxels'\) must be one of"),
        ({"frame": "pixels"}, r"`spacing` \(=None\) must be given"),
        ({"spacing": (1.0, 0.0)}, r"`spacing` \(=0.0\) must be positive"),
        ({"periodic": "w"}, r"`periodic` \(='w'\) must name axes out of x, y, z"),
    ],
)
def test_modules_refuse_bad_input_when_they_are_made(options, match):
    with pytest.raises(ValueError, match=match):
        grid.SamplingArgmax(**options)
    frame = {name: value for name, value in options.items() if name in ("frame", "spacing", "periodic")}
    if frame:
        with pytest.raises(ValueError, match=match):
            grid.SoftArgmax(**frame)


def test_a_spacing_may_be_an_array():
    maps = torch.randn(1, 2, 4, 6)
    expected = grid.SoftArgmax(spacing=(0.5, 2.0))(maps)
    module = grid.SoftArgmax(spacing=np.array([0.5, 2.0], np.float32))
    assert torch.equal(module(maps), expected)
    assert "spacing=(" in repr(module)
    assert torch.equal(grid.soft_argmax(maps, spacing=torch.tensor([0.5, 2.0])), expected)


def test_a_temperature_is_set_learned_and_kept_and_one_module_replaces_the_other(seeded):
    maps = torch.randn(1, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    module = grid.SamplingArgmax("triangular", 3)
    module.temperature = 0.25
    wanted = grid.sampling_argmax(maps, "triangular", num_samples=3, temperature=0.25, generator=seeded())
    assert torch.equal(module(maps, generator=seeded()), wanted)
    assert {name: value.item() for name, value in module.state_dict().items()} == {"steps_done": 0}
    assert not any(module.load_state_dict({"_extra_state": {"steps_done": 0}}))
    for shell in (grid.SoftArgmax(), grid.SamplingArgmax()):
        shell.temperature = torch.nn.Parameter(torch.tensor(0.5))
        shell(maps, generator=seeded()).square().sum().backward()
        assert shell.temperature.grad != 0
        assert "0.5" in repr(shell)
