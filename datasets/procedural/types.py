"""The type of the arrays that drawing code hands about: floating point, of any shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
