"""Landmarks in the files of other tools: Slicer, MeshLab, CloudCompare, and tables."""

from pcsa.datasets.landmark_files.fcsv import read_fcsv as read_fcsv, write_fcsv as write_fcsv
from pcsa.datasets.landmark_files.files import (
    LANDMARK_FILES as LANDMARK_FILES,
    read_landmarks as read_landmarks,
    write_landmarks as write_landmarks,
)
from pcsa.datasets.landmark_files.landmarks import Landmarks as Landmarks
from pcsa.datasets.landmark_files.meshlab import read_meshlab as read_meshlab, write_meshlab as write_meshlab
from pcsa.datasets.landmark_files.mrk import read_mrk as read_mrk, write_mrk as write_mrk
from pcsa.datasets.landmark_files.picked import read_picked as read_picked, write_picked as write_picked
from pcsa.datasets.landmark_files.table import read_table as read_table, write_table as write_table
