"""Covariances, modes and likelihoods are those of the mixture that a detector was trained with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

import pcsa
from pcsa import exported
from pcsa.losses import mixture_nll
from pcsa.tasks import open_run
from pcsa.tasks.common import detection
from pcsa.tasks.common.belief import read_maps
from pcsa.tasks.common.held_to_marks import FACTORS, hold
from pcsa.tasks.common.objective import bases_of
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.run_programs import program_of

OPTIONS = [{}, {"bandwidth": 0.05}, {"bandwidth_scale": 0.3}, {"bandwidth_normal": 0.2, "bandwidth_scale": 2.0}]


@pytest.fixture(params=OPTIONS, ids=str)
def run(request, trained):
    """A detector as if it had been trained with such bases, and bandwidths of a normalized cloud."""
    return with_bases(open_run(trained("supervised")[2]), request.param)


def with_bases(run, options):
    objective = replace(run.config.objective, **options)

    def bandwidth(pos):
        sigma = objective.bandwidth or objective.bandwidth_scale * pcsa.knn_bandwidth(pos)
        if objective.bandwidth_normal == 1:
            return sigma
        return pcsa.surface_bandwidth(pos, bandwidth=sigma, normal=objective.bandwidth_normal)

    return replace(run, config=replace(run.config, objective=objective)), bandwidth


@pytest.fixture
def cloud():
    generator = torch.Generator().manual_seed(0)
    return 7 * torch.randn(300, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.1]) + 50


def normalized(cloud):
    offset = cloud.mean(0)
    scale = (cloud - offset).norm(dim=1).max()
    return ((cloud - offset) / scale).float(), offset, scale


@pytest.mark.parametrize("read_out", ["expectation", "mode"])
def test_what_is_located(run, cloud, read_out):
    run, bandwidth = run
    located = run.task.locate(run, [cloud], read_out)
    pos, offset, scale = normalized(cloud)
    expected = pcsa.localize(located.logits[0], pos, bandwidth(pos), read_out=read_out)
    torch.testing.assert_close(located.position[0], expected.position[0] * scale + offset, rtol=1e-4, atol=1e-4)
    covariance = expected.covariance.double() * scale**2
    torch.testing.assert_close(located.covariance, covariance, rtol=1e-4, atol=1e-4)
    # What is drawn has the same.
    scene = run.task.scene(run, cloud, located, 0, read_out, title="")
    torch.testing.assert_close(torch.as_tensor(scene.covariance).double(), covariance[0], rtol=1e-3, atol=1e-3)


def test_what_is_evaluated(run, cloud):
    run, bandwidth = run
    bases, frame = bases_of(run.config), run.task.frame
    logits = run.task.locate(run, [cloud], "expectation").logits[0]
    K = logits.shape[1]
    pos, offset, scale = normalized(cloud)
    there = torch.ones(1, K, dtype=torch.bool)
    marks = cloud[: 2 * K].view(1, K, 2, 3)
    data = Data(pos=cloud, visible=there, marks=marks, marked=there.unsqueeze(-1).expand(1, K, 2))
    place = cloud[:K]
    maps = read_maps([data], [logits], frame, ("expectation", place[None]), radius=1.0, compared=["mode"], bases=bases)
    mode = pcsa.localize(logits, pos, bandwidth(pos), read_out="mode").position[0]
    torch.testing.assert_close(maps.position["mode"][0].double(), mode * scale + offset, rtol=1e-4, atol=1e-3)

    held = hold(data, logits, place, frame, bases)
    targets = ((marks - offset) / scale).float()
    found = pcsa.localize(logits, pos, bandwidth(pos))
    away = (found.position[0] * scale + offset - place).double()
    covariance = found.covariance[0].double() * scale**2 + away[:, :, None] * away[:, None]
    torch.testing.assert_close(held.covariance[0], covariance, rtol=1e-3, atol=1e-3)
    loss = sum(mixture_nll(logits, pos, bandwidth(pos), targets[:, :, m], reduction="sum") for m in range(2)) / 2
    expected = -float(loss) - 3 * K * float(scale.log())
    assert float(held.mixture[0, FACTORS.index(1.0)]) == pytest.approx(expected, rel=1e-3)


def test_what_is_searched_for_a_graph(run, cloud):
    run, bandwidth = run
    program = program_of(run, geometry="input")
    found = exported.inputs_of([cloud.float().numpy(), cloud[:9].float().numpy()], program.about)
    expected = [bandwidth(normalized(part)[0]) for part in (cloud, cloud[:9])]
    if isinstance(expected[0], float):
        expected = [torch.full((n,), expected[0]) for n in (300, 9)]
    np.testing.assert_allclose(found["bandwidth"], torch.cat(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("geometry", ["inside", "input"])
def test_what_a_program_finds(run, geometry):
    run, _ = run
    if geometry == "inside" and run.config.objective.bandwidth_normal < 1:
        with pytest.raises(ValueError, match=r"`geometry` \(='inside'\) must be 'input' .*bandwidth_normal"):
            program_of(run)
        return
    program = program_of(run, geometry=geometry)
    # Whatever file is written is held against these.
    *_, (_, inputs, expected) = program.checks()
    found = dict(zip(program.outputs, program.module(*inputs), strict=True))
    torch.testing.assert_close(found["covariance"].double(), expected["covariance"].double(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_skeleton_merger_of_two_clouds(trained, cloud, options):
    run, bandwidth = with_bases(open_run(trained("unsupervised")[2]), options)
    clouds = [cloud, cloud[:200] * 3]
    located = run.task.locate(run, clouds, "expectation")
    for i, one in enumerate(clouds):
        low, high = one.min(), one.max()
        pos, scale = ((2 * one - low - high) / (high - low)).float(), (high - low) / 2
        expected = pcsa.localize(located.logits[i], pos, bandwidth(pos)).covariance[0].double() * scale**2
        torch.testing.assert_close(located.covariance[i], expected, rtol=1e-3, atol=1e-3)


def test_an_ensemble_has_one_kind_of_bases(trained, tmp_path):
    path = trained("supervised")[2]
    run, _ = with_bases(open_run(path), {"bandwidth_scale": 0.5})
    # The file is another network's, whose weights are the same.
    other = tmp_path / "other.ckpt"
    other.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"`ensemble` .* must have the bases of .*bandwidth_scale=1.0.*not .*=0.5"):
        open_ensemble(run, [other])
    assert open_ensemble(open_run(path), [other]).model is not run.model


def test_evaluation_reads_with_the_bases_of_the_run(trained, monkeypatch):
    run, _ = with_bases(open_run(trained("supervised")[2]), {"bandwidth_scale": 0.5})
    seen = []
    real = detection.read_maps

    def read(*arguments, **options):
        seen.append(options["bases"])
        return real(*arguments, **options)

    monkeypatch.setattr(detection, "read_maps", read)
    options = run.task.evaluate_options(checkpoint=run.path, split="val")
    evaluation = run.task.evaluation(run, options)
    evaluation.find(Batch.from_data_list([evaluation.items[0]]))
    assert [bases.bandwidth_scale for bases in seen] == [0.5]


def test_an_objective_without_bases_has_those_of_the_neighbors():
    assert bases_of(Data()).bandwidth is None
    assert bases_of(Data()).bandwidth_scale == 1
