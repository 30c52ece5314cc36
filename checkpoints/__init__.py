"""The model that ships with serx and its model card; installed as `serx.pretrained`. Runs of users lie next to it."""
