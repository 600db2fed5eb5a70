"""Where kernels run: on CUDA, or under the interpreter."""

import pytest
import torch

from pcsa._core.triton.launch import interpreted

here = pytest.mark.skipif(not interpreted(), reason="kernels run here with TRITON_INTERPRET=1")
card = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available() or interpreted(), reason="no CUDA device")]


@pytest.fixture(params=[pytest.param("cpu", marks=here), pytest.param("cuda", marks=card)])
def device(request):
    return request.param
