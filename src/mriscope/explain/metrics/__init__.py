"""Whether maps mean something: faithful to the model, dependent on its weights, and where they lie.

The modules take a model, images, maps and classes, and know nothing of how the maps were computed: `faithfulness`,
`randomisation`, `localisation`, `cohort` (mean maps), `comparison` (all of these for several methods) and
`recommendation` (which method to use).
"""
