"""Pictures made ready for Qwen-VL: legal, upright, counted, encoded and budgeted."""

from qwenvl_prep.plan import count_tokens, plan
from qwenvl_prep.prepare import prepare, prepare_many
from qwenvl_prep.geometry import smart_resize, smart_resize_many
from qwenvl_prep.profiles import get_model, list_models
from qwenvl_prep.validate import validate
from qwenvl_prep.probe import probe
