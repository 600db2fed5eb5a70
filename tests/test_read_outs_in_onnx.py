"""Read-outs in a graph of one's own network, by both of torch's ways to ONNX, have all that they have in Python."""

import warnings

import numpy as np
import pytest
import torch

import pcsa

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class ReadOut(torch.nn.Module):
    def forward(self, logits, pos):
        found = pcsa.localize(logits, pos, 0.5, validate=False)
        return found.position, found.covariance, found.entropy


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_covariance_keeps_the_bases(dynamo, tmp_path):
    torch.manual_seed(0)
    inputs, file = (torch.randn(2, 20, 4), torch.randn(2, 20, 3)), tmp_path / "a.onnx"
    with warnings.catch_warnings():
        # Torch's own, of the way that it gives up, and of shapes that are fixed here.
        warnings.simplefilter("ignore")
        torch.onnx.export(ReadOut(), inputs, file, dynamo=dynamo, opset_version=18, verbose=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options)
    found = session.run(
        None, dict(zip([x.name for x in session.get_inputs()], map(torch.Tensor.numpy, inputs), strict=True))
    )
    expected = ReadOut()(*inputs)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-5)
    # σ² of every basis is a part of it: the covariance of points alone is smaller by that.
    assert (np.diagonal(found[1], axis1=-2, axis2=-1) > 0.25).all()
