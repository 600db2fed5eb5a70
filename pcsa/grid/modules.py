"""Soft-argmax and sampling-argmax as modules for a network's head."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pcsa._core.checks import check_temperature
from pcsa.grid.bases import Basis
from pcsa.grid.expectation import soft_argmax
from pcsa.grid.frames import Frame, Spacing, affine_of, plain_spacing
from pcsa.grid.rings import rings_of
from pcsa.grid.samples import Form, NoiseAxes, check_sampling, sampling_argmax
from pcsa.sampling import BasisNoise
from pcsa.schedules import ScheduledTemperature, TemperatureSchedule


class _InFrame(nn.Module):
    """What both modules keep of the frame of their results."""

    def __init__(self, frame: Frame | None, spacing: Spacing | None, periodic: Iterable[str]) -> None:
        super().__init__()
        spacing = None if spacing is None else plain_spacing(spacing)
        axes = len(spacing) if isinstance(spacing, tuple) else 3
        # The number of axes is not known before there are maps. Two cells along every axis do for every frame.
        affine_of([2] * axes, frame, spacing)
        self.frame: Frame | None = frame
        self.spacing = spacing
        self.periodic = tuple(periodic)
        rings_of(self.periodic, (2,) * 3)

    def in_frame(self) -> dict[str, Any]:
        """Arguments of the functions that say where positions are."""
        return {"frame": self.frame, "spacing": self.spacing, "periodic": self.periodic}

    def extra_repr(self) -> str:
        return "".join(f", {name}={value!r}" for name, value in self.in_frame().items() if value not in (None, ()))


class SoftArgmax(_InFrame):
    """See :func:`pcsa.grid.soft_argmax`.

    Args:
        temperature: Divides the logits: a number, or an ``nn.Parameter`` to learn; may be set later.
        frame: Frame of the result.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``.
        periodic: Names of the axes that close to a ring.
    """

    def __init__(
        self,
        temperature: float | Tensor = 1.0,
        *,
        frame: Frame | None = None,
        spacing: Spacing | None = None,
        periodic: Iterable[str] = (),
    ) -> None:
        super().__init__(frame, spacing, periodic)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None, validate: bool = True) -> Tensor:
        """Positions ``[B, K, D]``; ``generator`` is that of :class:`SamplingArgmax`, and not read."""
        return soft_argmax(logits, temperature=self.temperature, validate=validate, **self.in_frame())

    def extra_repr(self) -> str:
        return f"temperature={torch.as_tensor(self.temperature).item():g}{super().extra_repr()}"


class SamplingArgmax(_InFrame, ScheduledTemperature):
    """Samples while training, the expectation while testing; see :func:`pcsa.grid.sampling_argmax`.

    Args:
        basis: Shape of a cell's density.
        num_samples: Samples of every keypoint while training.
        temperature: A number, a schedule or a parameter, as in :class:`pcsa.SamplingArgmax`. The expectation is taken
            at temperature 1.
        noise_axes: See :func:`pcsa.grid.sampling_argmax`.
        basis_noise: See :func:`pcsa.grid.sampling_argmax`.
        form: See :func:`pcsa.grid.sampling_argmax`.
        frame: Frame of the result.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``.
        periodic: Names of the axes that close to a ring.

    Example:
        >>> module = SamplingArgmax(num_samples=30, frame="pixels", spacing=4)
        >>> logits = torch.zeros(2, 17, 64, 48)
        >>> module(logits).shape, module.eval()(logits).shape
        (torch.Size([2, 17, 30, 2]), torch.Size([2, 17, 2]))
    """

    def __init__(
        self,
        basis: Basis = "triangular",
        num_samples: int = 1,
        temperature: float | TemperatureSchedule | nn.Parameter = 1.0,
        *,
        noise_axes: NoiseAxes | None = None,
        basis_noise: BasisNoise = "relaxed",
        form: Form = "paper",
        frame: Frame | None = None,
        spacing: Spacing | None = None,
        periodic: Iterable[str] = (),
    ) -> None:
        super().__init__(frame, spacing, periodic)
        check_sampling(basis, num_samples, noise_axes, basis_noise, form)
        self.basis: Basis = basis
        self.num_samples = num_samples
        self.temperature = temperature  # type: ignore[assignment]  # a number becomes a schedule
        self.noise_axes: NoiseAxes | None = noise_axes
        self.basis_noise: BasisNoise = basis_noise
        self.form: Form = form

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None, validate: bool = True) -> Tensor:
        """Samples ``[B, K, S, D]`` in train mode, positions ``[B, K, D]`` in eval mode."""
        if not self.training:
            return soft_argmax(logits, validate=validate, **self.in_frame())
        return sampling_argmax(
            logits,
            self.basis,
            num_samples=self.num_samples,
            temperature=self.tau,
            noise_axes=self.noise_axes,
            basis_noise=self.basis_noise,
            form=self.form,
            generator=generator,
            validate=validate,
            **self.in_frame(),
        )

    def extra_repr(self) -> str:
        return (
            f"basis={self.basis!r}, num_samples={self.num_samples}, temperature={self.shown}, "
            f"basis_noise={self.basis_noise!r}, form={self.form!r}"
            f"{super().extra_repr()}"
        )
