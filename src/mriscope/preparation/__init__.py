"""From T1 volumes to slices like those of a training set: skull, bias field, template space, grey levels, choice."""
