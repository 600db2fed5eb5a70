"""A procedural twin of KeypointNet: parametric shapes, written in KeypointNet's release layout.

A category is one module: a table of names and a function that draws a `Design` (parts and named landmarks) from
a random generator. All else (normalization, sampling, snapping, files) is shared.

Frame: y is up and the bounding box's diagonal is 1, as in ShapeNet. The origin is the centroid of the surface,
except along the axis of the mirror symmetry, where the symmetry plane stays at 0. What is driven, flown, ridden,
sailed, sat on or worn on the head faces -z; a guitar stands on its body, strings to -z. Each category's module says
where its front is and which of its semantic ids mean what they mean in KeypointNet; the other ids are this
twin's own.

Apart from these, pictures with exact truth for networks on grids: people in pictures and volumes
(:class:`Figures2D`, :class:`Figures3D`, :class:`FigureImages3D`), layered scans (:class:`Retinas`), :class:`Faces`.
"""

from pcsa.datasets.procedural.pictures.faces import Faces as Faces
from pcsa.datasets.procedural.pictures.figure_images import FigureImages3D as FigureImages3D, Figures2D as Figures2D
from pcsa.datasets.procedural.pictures.figure_volumes import Figures3D as Figures3D
from pcsa.datasets.procedural.pictures.retina import Retinas as Retinas
from pcsa.datasets.procedural.shapes.categories import (
    CATEGORIES as CATEGORIES,
    check_categories as check_categories,
)
from pcsa.datasets.procedural.shapes.files import (
    embedded_root as embedded_root,
    generate as generate,
    shape_rng as shape_rng,
)
from pcsa.datasets.procedural.shapes.shape import (
    Cloud as Cloud,
    Shape as Shape,
    make_shape as make_shape,
    sample_shape as sample_shape,
)
