"""Labels by which policies, the rehearsal and users find what Spillway runs."""

PLATFORM_LABEL = "spillway.dev/platform"
MODEL_LABEL = "spillway.dev/model"
# Pods of a RayService carry the model's label too. While a model moves from one serving kind to the other,
# only this one tells them apart.
SERVING_LABEL = "spillway.dev/serving"
