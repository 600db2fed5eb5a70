"""Files of meshes, one file here per format."""

from pcsa.datasets.meshes.read import MESHES as MESHES, load_mesh as load_mesh, read_mesh as read_mesh
