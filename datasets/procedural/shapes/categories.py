"""The categories: the class, the names of the keypoints and the function that draws each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pcsa.datasets.procedural.shapes import (
    airplane,
    bathtub,
    bed,
    bottle,
    cap,
    car,
    chair,
    guitar,
    helmet,
    knife,
    laptop,
    motorcycle,
    mug,
    skateboard,
    table,
    vessel,
)
from pcsa.datasets.procedural.shapes.design import Design


class Category(NamedTuple):
    """What a category is made of.

    Args:
        class_id: ShapeNet's number of the category.
        names: Names of the keypoints by semantic id.
        draw: Draws one shape.
    """

    class_id: str
    names: dict[int, str]
    draw: Callable[[np.random.Generator], Design]


TABLE = {
    "airplane": Category("02691156", airplane.NAMES, airplane.draw),
    "bathtub": Category("02808440", bathtub.NAMES, bathtub.draw),
    "bed": Category("02818832", bed.NAMES, bed.draw),
    "bottle": Category("02876657", bottle.NAMES, bottle.draw),
    "cap": Category("02954340", cap.NAMES, cap.draw),
    "car": Category("02958343", car.NAMES, car.draw),
    "chair": Category("03001627", chair.NAMES, chair.draw),
    "guitar": Category("03467517", guitar.NAMES, guitar.draw),
    "helmet": Category("03513137", helmet.NAMES, helmet.draw),
    "knife": Category("03624134", knife.NAMES, knife.draw),
    "laptop": Category("03642806", laptop.NAMES, laptop.draw),
    "motorcycle": Category("03790512", motorcycle.NAMES, motorcycle.draw),
    "mug": Category("03797390", mug.NAMES, mug.draw),
    "skateboard": Category("04225987", skateboard.NAMES, skateboard.draw),
    "table": Category("04379243", table.NAMES, table.draw),
    "vessel": Category("04530566", vessel.NAMES, vessel.draw),
}

CATEGORIES: tuple[str, ...] = tuple(TABLE)


def check_categories(category: str | Sequence[str]) -> list[str]:
    """Return the distinct names of one or several categories; raise if one is unknown or there is none."""
    names = [category] if isinstance(category, str) else list(category)
    unknown = [name for name in names if name not in TABLE]
    if unknown or not names:
        raise ValueError(f"`category` (={category!r}) must be one or more of {', '.join(CATEGORIES)}")
    return list(dict.fromkeys(names))
