"""Statistics: arrays in, figures out; each module names its paper."""
