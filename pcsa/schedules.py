"""Schedules of the temperature during training."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pcsa._core.checks import check_count, check_one_of, check_positive, check_temperature

Kind = Literal["constant", "linear", "exponential", "cosine"]


class TemperatureSchedule:
    """A temperature that goes from ``start`` to ``end`` in ``num_steps`` steps and stays there.

    With f the fraction of the steps done, the temperature is

    - ``"constant"``: start
    - ``"linear"``: start + (end - start) f
    - ``"exponential"``: start (end / start)^f
    - ``"cosine"``: end + (start - end) (1 + cos(pi f)) / 2

    The training loop calls :meth:`step` once per optimizer step (or per epoch, if ``num_steps`` counts epochs);
    :meth:`state_dict` and :meth:`load_state_dict` store and restore the progress.

    Args:
        kind: One of the four above. Default ``"constant"``.
        start: Temperature before the first step. Positive.
        end: Temperature from ``num_steps`` on; default ``start``. Positive.
        num_steps: Steps from ``start`` to ``end``.

    Example:
        >>> schedule = TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=2)
        >>> schedule.value
        2.0
        >>> schedule.step()
        >>> schedule.value
        1.5
    """

    def __init__(
        self,
        kind: Kind = "constant",
        *,
        start: float = 1.0,
        end: float | None = None,
        num_steps: int = 1,
    ) -> None:
        end = start if end is None else end
        check_one_of("kind", kind, get_args(Kind))
        check_positive("start", start)
        check_positive("end", end)
        if kind == "constant" and end != start:
            raise ValueError(f"`end` (={end}) must be `start` (={start}) for a constant temperature")
        check_count("num_steps", num_steps)
        self.kind, self.start, self.end, self.num_steps = kind, start, end, num_steps
        self.steps_done = 0
        #: The temperature now, as a 0-d tensor that every step writes to: what a compiled function can read.
        self.tensor = torch.tensor(start, dtype=torch.float64)

    def at(self, step: int) -> float:
        """Temperature after ``step`` steps."""
        f = min(max(step / self.num_steps, 0.0), 1.0)
        if self.kind == "linear":
            return self.start + (self.end - self.start) * f
        if self.kind == "exponential":
            return self.start * (self.end / self.start) ** f
        if self.kind == "cosine":
            return self.end + (self.start - self.end) * (1 + math.cos(math.pi * f)) / 2
        return self.start

    @property
    def value(self) -> float:
        """Temperature now."""
        return self.at(self.steps_done)

    def step(self) -> None:
        """Go one step further."""
        self.go_to(self.steps_done + 1)

    def go_to(self, step: int) -> None:
        """Go to the temperature after ``step`` steps."""
        self.steps_done = step
        self.tensor.fill_(self.value)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress, in plain Python numbers."""
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.go_to(int(state["steps_done"]))

    @staticmethod
    def of(temperature: "float | TemperatureSchedule") -> "TemperatureSchedule":
        """Return a schedule as it is, and a number as a constant one."""
        return temperature if isinstance(temperature, TemperatureSchedule) else TemperatureSchedule(start=temperature)

    def __repr__(self) -> str:
        if self.kind == "constant":
            return f"{self.start:g}"
        return f"{self.kind}({self.start:g} to {self.end:g} in {self.num_steps})"


class ScheduledTemperature(nn.Module):
    """A module with a temperature that may be set: a number, a schedule, or a parameter to learn.

    The progress of a schedule is part of the ``state_dict``, as a tensor ``steps_done``. A ``state_dict`` that holds
    none, or holds it as a dictionary as it once was, is loaded as well.

    Args:
        temperature: The temperature to begin with.
    """

    temperature: TemperatureSchedule | nn.Parameter

    def __init__(self, temperature: float | TemperatureSchedule | nn.Parameter = 1.0) -> None:
        super().__init__()
        self.temperature = temperature  # type: ignore[assignment]  # a number becomes a schedule

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "temperature":
            if isinstance(value, Tensor):
                check_temperature(value)
            if not isinstance(value, Tensor) or not value.requires_grad:
                value = TemperatureSchedule.of(float(value) if isinstance(value, Tensor) else value)
            self._parameters.pop(name, None)
        super().__setattr__(name, value)

    @property
    def tau(self) -> Tensor:
        """Temperature now, as a 0-d tensor."""
        return self.temperature.tensor if isinstance(self.temperature, TemperatureSchedule) else self.temperature

    @property
    def shown(self) -> str:
        """Temperature as ``repr`` shows it."""
        is_schedule = isinstance(self.temperature, TemperatureSchedule)
        return str(self.temperature) if is_schedule else f"{self.tau.item():g}, learned"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if isinstance(self.temperature, TemperatureSchedule):
            destination[f"{prefix}steps_done"] = torch.tensor(self.temperature.steps_done)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Taken out, so that what it holds is neither unexpected nor missing.
        older = state_dict.pop(f"{prefix}_extra_state", None)
        steps_done = state_dict.pop(f"{prefix}steps_done", older and older["steps_done"])
        if steps_done is not None and isinstance(self.temperature, TemperatureSchedule):
            self.temperature.go_to(int(steps_done))
        super()._load_from_state_dict(state_dict, prefix, *args)
