"""`make bench`: the node beside DCMTK and Orthanc, alternating in one run on one machine."""
