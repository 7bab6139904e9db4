"""Pictures made ready for Qwen-VL: legal, upright, counted, encoded and budgeted."""

from typing import TYPE_CHECKING, Any

# Functions that share a name with their module are imported here once, after which
# the name means the function. None of these modules loads a heavy library by itself.
from qwenvl_prep import errors
from qwenvl_prep._version import __version__
from qwenvl_prep.budget import RequestPlan, count_fitting, fit
from qwenvl_prep.data_uri import from_data_uri, to_data_uri
from qwenvl_prep.errors import QwenVLPrepError
from qwenvl_prep.fidelity import FidelityReport
from qwenvl_prep.findings import Finding
from qwenvl_prep.geometry import smart_resize, smart_resize_many
from qwenvl_prep.limits import Limits
from qwenvl_prep.options import PlanKeywords, PlanOptions
from qwenvl_prep.plan import ImagePlan, count_tokens, count_tokens_many, plan
from qwenvl_prep.prepare import PreparedImage, prepare, prepare_many
from qwenvl_prep.probe import ImageInfo, probe
from qwenvl_prep.profiles import (
    ModelProfile,
    Prices,
    PriceTier,
    get_model,
    list_models,
    load_models,
)
from qwenvl_prep.reply import Reply, Usage
from qwenvl_prep.request import chat_request, http_body
from qwenvl_prep.resize import Resizer, backend, resize
from qwenvl_prep.validate import ValidationReport, validate

if TYPE_CHECKING:
    from qwenvl_prep.sender import Sender

__all__ = [
    "FidelityReport",
    "Finding",
    "ImageInfo",
    "ImagePlan",
    "Limits",
    "ModelProfile",
    "PlanKeywords",
    "PlanOptions",
    "PreparedImage",
    "PriceTier",
    "Prices",
    "QwenVLPrepError",
    "Reply",
    "RequestPlan",
    "Resizer",
    "Sender",
    "Usage",
    "ValidationReport",
    "__version__",
    "backend",
    "chat_request",
    "count_fitting",
    "count_tokens",
    "count_tokens_many",
    "errors",
    "fit",
    "from_data_uri",
    "get_model",
    "http_body",
    "list_models",
    "load_models",
    "plan",
    "prepare",
    "prepare_many",
    "probe",
    "resize",
    "smart_resize",
    "smart_resize_many",
    "to_data_uri",
    "validate",
]


def __getattr__(name: str) -> Any:
    # Only who sends pays for loading the HTTP library.
    if name == "Sender":
        from qwenvl_prep.sender import Sender

        return Sender
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
