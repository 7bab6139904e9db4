"""Pictures made ready for Qwen-VL: legal, upright, counted, encoded and budgeted."""

import sys

from qwenvl_prep._version import __version__ as __version__

# Type checkers take any variable of this name for true; typing would have to be loaded.
TYPE_CHECKING = False

# Nothing is loaded before it is used. A public name is one line here, and one line with
# its home below; a test holds the two together.
if TYPE_CHECKING:
    from qwenvl_prep import errors as errors
    from qwenvl_prep.answers import parse_boxes as parse_boxes
    from qwenvl_prep.budget import RequestPlan as RequestPlan
    from qwenvl_prep.budget import count_fitting as count_fitting
    from qwenvl_prep.budget import fit as fit
    from qwenvl_prep.coordinates import Box as Box
    from qwenvl_prep.coordinates import CoordinateMap as CoordinateMap
    from qwenvl_prep.cost import Cost as Cost
    from qwenvl_prep.cost import cost as cost
    from qwenvl_prep.cost import cost_many as cost_many
    from qwenvl_prep.cost import cost_of as cost_of
    from qwenvl_prep.cut import PreparedTile as PreparedTile
    from qwenvl_prep.cut import prepare_tiles as prepare_tiles
    from qwenvl_prep.data_uri import from_data_uri as from_data_uri
    from qwenvl_prep.data_uri import to_data_uri as to_data_uri
    from qwenvl_prep.errors import QwenVLPrepError as QwenVLPrepError
    from qwenvl_prep.fidelity import FidelityReport as FidelityReport
    from qwenvl_prep.findings import Finding as Finding
    from qwenvl_prep.geometry import smart_resize as smart_resize
    from qwenvl_prep.geometry import smart_resize_many as smart_resize_many
    from qwenvl_prep.limits import Limits as Limits
    from qwenvl_prep.options import PlanKeywords as PlanKeywords
    from qwenvl_prep.options import PlanOptions as PlanOptions
    from qwenvl_prep.plan import ImagePlan as ImagePlan
    from qwenvl_prep.plan import count_tokens as count_tokens
    from qwenvl_prep.plan import count_tokens_many as count_tokens_many
    from qwenvl_prep.plan import plan as plan
    from qwenvl_prep.prepare import PreparedImage as PreparedImage
    from qwenvl_prep.prepare import prepare as prepare
    from qwenvl_prep.prepare import prepare_many as prepare_many
    from qwenvl_prep.probe import ImageInfo as ImageInfo
    from qwenvl_prep.probe import probe as probe
    from qwenvl_prep.probe import probe_prefix as probe_prefix
    from qwenvl_prep.profiles import ModelProfile as ModelProfile
    from qwenvl_prep.profiles import Prices as Prices
    from qwenvl_prep.profiles import PriceTier as PriceTier
    from qwenvl_prep.profiles import get_model as get_model
    from qwenvl_prep.profiles import list_models as list_models
    from qwenvl_prep.profiles import load_models as load_models
    from qwenvl_prep.reconcile import Reconciliation as Reconciliation
    from qwenvl_prep.reconcile import reconcile as reconcile
    from qwenvl_prep.remote import Fetcher as Fetcher
    from qwenvl_prep.reply import Reply as Reply
    from qwenvl_prep.reply import Usage as Usage
    from qwenvl_prep.request import chat_request as chat_request
    from qwenvl_prep.request import http_body as http_body
    from qwenvl_prep.resize import Resizer as Resizer
    from qwenvl_prep.resize import backend as backend
    from qwenvl_prep.resize import resize as resize
    from qwenvl_prep.scenarios import Scenario as Scenario
    from qwenvl_prep.scenarios import what_if as what_if
    from qwenvl_prep.sender import Sender as Sender
    from qwenvl_prep.shrink import SizesFit as SizesFit
    from qwenvl_prep.shrink import fit_sizes as fit_sizes
    from qwenvl_prep.split import split_requests as split_requests
    from qwenvl_prep.text_tokens import TextTokens as TextTokens
    from qwenvl_prep.text_tokens import chat_text_tokens as chat_text_tokens
    from qwenvl_prep.text_tokens import count_text_tokens as count_text_tokens
    from qwenvl_prep.text_tokens import text_tokens_of as text_tokens_of
    from qwenvl_prep.tile_boxes import merge_boxes as merge_boxes
    from qwenvl_prep.tiles import Tile as Tile
    from qwenvl_prep.tiles import TilePlan as TilePlan
    from qwenvl_prep.tiles import plan_tiles as plan_tiles
    from qwenvl_prep.validate import ValidationReport as ValidationReport
    from qwenvl_prep.validate import validate as validate
    from qwenvl_prep.video import VideoPlan as VideoPlan
    from qwenvl_prep.video import count_video_tokens as count_video_tokens
    from qwenvl_prep.video import plan_video as plan_video
    from qwenvl_prep.video import prepare_video as prepare_video
    from qwenvl_prep.video import sample_frames as sample_frames

# Which module gives a name; None where it is a module itself.
_HOMES = {
    "Box": "coordinates",
    "CoordinateMap": "coordinates",
    "Cost": "cost",
    "Fetcher": "remote",
    "FidelityReport": "fidelity",
    "Finding": "findings",
    "ImageInfo": "probe",
    "ImagePlan": "plan",
    "Limits": "limits",
    "ModelProfile": "profiles",
    "PlanKeywords": "options",
    "PlanOptions": "options",
    "PreparedImage": "prepare",
    "PreparedTile": "cut",
    "PriceTier": "profiles",
    "Prices": "profiles",
    "QwenVLPrepError": "errors",
    "Reconciliation": "reconcile",
    "Reply": "reply",
    "RequestPlan": "budget",
    "Resizer": "resize",
    "Scenario": "scenarios",
    "Sender": "sender",
    "SizesFit": "shrink",
    "Tile": "tiles",
    "TilePlan": "tiles",
    "TextTokens": "text_tokens",
    "Usage": "reply",
    "ValidationReport": "validate",
    "VideoPlan": "video",
    "backend": "resize",
    "chat_request": "request",
    "cost": "cost",
    "cost_many": "cost",
    "cost_of": "cost",
    "chat_text_tokens": "text_tokens",
    "count_fitting": "budget",
    "count_text_tokens": "text_tokens",
    "count_tokens": "plan",
    "count_tokens_many": "plan",
    "count_video_tokens": "video",
    "errors": None,
    "fit": "budget",
    "fit_sizes": "shrink",
    "from_data_uri": "data_uri",
    "get_model": "profiles",
    "http_body": "request",
    "list_models": "profiles",
    "load_models": "profiles",
    "merge_boxes": "tile_boxes",
    "parse_boxes": "answers",
    "plan": "plan",
    "plan_tiles": "tiles",
    "plan_video": "video",
    "prepare": "prepare",
    "prepare_many": "prepare",
    "prepare_tiles": "cut",
    "prepare_video": "video",
    "probe": "probe",
    "probe_prefix": "probe",
    "reconcile": "reconcile",
    "resize": "resize",
    "sample_frames": "video",
    "smart_resize": "geometry",
    "smart_resize_many": "geometry",
    "split_requests": "split",
    "text_tokens_of": "text_tokens",
    "to_data_uri": "data_uri",
    "validate": "validate",
    "what_if": "scenarios",
}

__all__ = sorted([*_HOMES, "__version__"])


# Hidden from type checkers, which would take any name for one of ours.
if not TYPE_CHECKING:

    class _Package(type(sys)):
        """Keeps the name of a function that shares it with its module."""

        def __setattr__(self, name: str, value: object) -> None:
            # Who loads a module puts it into its package, under the module's name.
            if isinstance(value, type(sys)) and _HOMES.get(name) == name:
                value = getattr(value, name)
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from importlib import import_module

        home = _HOMES[name]
        module = import_module(f"{__name__}.{home or name}")
        value = getattr(module, name) if home else module
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
