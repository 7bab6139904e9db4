"""
What can go wrong, in one tree.

::

    QwenVLPrepError
    ├── SourceError                  the input cannot be read: missing, a folder
    │   ├── AddressError             an address that is not fetched from here
    │   └── FetchError               the address did not give the file
    │       └── FetchDeadlineError   not in time
    ├── NeedMoreBytesError           the beginning of a file is too short to say
    ├── ImageError (ValueError)      something about one image
    │   ├── NotAnImageError          a PDF, a spreadsheet, a video, text
    │   ├── UnsupportedFormatError   a picture, of a type that is not read here
    │   ├── DamagedImageError        broken, or it ends too early
    │   ├── DecodeLimitError         the header announces more than the limits
    │   ├── FrameError               no such frame, page or picture in the file
    │   ├── AspectRatioError         above 200:1, so no size is legal
    │   ├── IllegalImageError        against the rules, and cannot be mended
    │   ├── EncodedSizeError         above the byte limit in all tries
    │   └── LegibilityError          tiles would be shrunk below what can be read
    ├── ImagesRefusedError (ValueError)  some of many; each with its reason
    ├── ForkedProcessError           libvips was used before this process was forked
    ├── BackendError (ValueError)    kernels were named that this CPU cannot run
    ├── UnknownModelError (LookupError)  no such profile; lists the nearest
    ├── UnknownPriceError (LookupError)  a model whose prices are not known
    ├── ModelFeatureError (ValueError)   no video, no high resolution
    ├── ModelTableError (ValueError)     a file of models that is not sound
    ├── BudgetError (ValueError)     images and text do not fit one request
    ├── RequestError (ValueError)    the API would refuse it as it stands
    ├── UnreadableBoxesError (ValueError)  a reply names boxes that cannot be read
    └── SendError                    the request was not answered
        ├── MissingKeyError          no API key was given
        ├── ConnectionFailedError    no connection, or it broke
        ├── DeadlineError            no answer in time
        ├── InterruptedStreamError   broke off; carries the text so far
        ├── UnreadableReplyError     not what the API documents
        └── ApiError                 refused; status, code and request id
            ├── InvalidRequestError       400, the request itself
            ├── ContentRefusedError       400, DataInspectionFailed
            ├── ArrearageError            400, the account owes money
            ├── AuthenticationFailedError 401, the key
            ├── AccessDeniedError         403
            ├── ModelNotFoundError        404
            ├── PayloadTooLargeError      413
            ├── ThrottledError            429, too much in this minute
            ├── QuotaExhaustedError       429, waiting does not help
            └── ServerFailureError        5xx

Whatever this package refuses on purpose derives from :class:`QwenVLPrepError`.
Numbers are attributes, so that nobody has to read them out of a message.
A mistake in the calling code (a wrong type, a negative cap) is an ordinary
``TypeError`` or ``ValueError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwenvl_prep.coordinates import Box
    from qwenvl_prep.findings import Finding

__all__ = [
    "AccessDeniedError",
    "AddressError",
    "ApiError",
    "ArrearageError",
    "AspectRatioError",
    "AuthenticationFailedError",
    "BackendError",
    "BudgetError",
    "ConnectionFailedError",
    "ContentRefusedError",
    "DamagedImageError",
    "DeadlineError",
    "DecodeLimitError",
    "EncodedSizeError",
    "FetchDeadlineError",
    "FetchError",
    "ForkedProcessError",
    "FrameError",
    "IllegalImageError",
    "ImageError",
    "ImagesRefusedError",
    "InterruptedStreamError",
    "InvalidRequestError",
    "LegibilityError",
    "MissingKeyError",
    "ModelFeatureError",
    "ModelNotFoundError",
    "ModelTableError",
    "NeedMoreBytesError",
    "NotAnImageError",
    "PayloadTooLargeError",
    "QuotaExhaustedError",
    "QwenVLPrepError",
    "RequestError",
    "SendError",
    "ServerFailureError",
    "SourceError",
    "ThrottledError",
    "UnknownModelError",
    "UnknownPriceError",
    "UnreadableBoxesError",
    "UnreadableReplyError",
    "UnsupportedFormatError",
]


# How many of many things a message lists, how long one of their names gets, and how
# long a message that lists them; all of them are attributes.
FEW = 3
_LONGEST_NAME = 40
_LONG = 300
# The place before each reason, and its part of what stands around them all.
_AROUND_REASON = 30


class QwenVLPrepError(Exception):
    """
    Base of every error that this package raises on purpose.

    Parameters
    ----------
    message : str
        One sentence: what was expected, what came, what to do.
    **facts
        The numbers and names behind the sentence; each becomes an attribute.

    Attributes
    ----------
    source_name : str or None
        The input it is about, as a :class:`qwenvl_prep.PreparedImage` of it would be
        called; None where it is about none, or none was named.
    """

    source_name: str | None = None

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self._facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling would lose the keyword facts, and workers in
        # other processes hand their errors back by pickle.
        facts = dict(self._facts)
        if self.source_name is not None:
            facts["source_name"] = self.source_name
        return _rebuild, (type(self), str(self), facts)


def _rebuild(
    kind: type[QwenVLPrepError], message: str, facts: dict[str, Any]
) -> QwenVLPrepError:
    return kind(message, **facts)


_Exc = TypeVar("_Exc", bound=BaseException)


def without_frames(exc: _Exc) -> _Exc:
    """
    Take the tracebacks off an error that is handed on as a value.

    Their frames hold the file and the pixels that were worked on, and a list of a
    thousand refusals would keep a thousand files in memory.
    """
    link: BaseException | None = exc
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return exc


def named(exc: _Exc, name: str) -> _Exc:
    """Say which input an error is about, where it does not say so itself."""
    if isinstance(exc, QwenVLPrepError) and exc.source_name is None:
        exc.source_name = name
    return exc


def shortened(name: str) -> str:
    """
    Give a name as it stands in a message: of a long path its end.

    Examples
    --------
    >>> shortened("cat.jpg"), len(shortened("folder/" * 20 + "cat.jpg"))
    ('cat.jpg', 40)
    """
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _beginning(reason: str, most: int | None) -> str:
    """Give a reason as far as there is room for it."""
    if most is None or len(reason) <= most:
        return reason
    return f"{reason[: most - 1].rstrip()}…"


class SourceError(QwenVLPrepError):
    """The input cannot be read: missing, a folder, no permission, a broken data URI."""


class AddressError(SourceError):
    """
    An address that is not fetched from here: private, malformed, not of the web.

    Attributes
    ----------
    address : str
        Without user, password and query, which may be secret.
    """

    address: str


class FetchError(SourceError):
    """
    An address that may be fetched did not give the file.

    Attributes
    ----------
    address : str
        Without query, which may be secret.
    status : int or None
        The HTTP status, where that is what was wrong.
    """

    address: str
    status: int | None = None


class FetchDeadlineError(FetchError):
    """
    An address did not answer in time.

    Attributes
    ----------
    seconds : float
        The limit that ran out.
    """

    seconds: float


class NeedMoreBytesError(QwenVLPrepError):
    """
    The beginning of a file that was given is too short to say what picture it is.

    Attributes
    ----------
    needed : int
        How many bytes of the beginning are needed to go on; never more than the file
        has, where its size was told.  ``sys.maxsize`` stands for all of a file whose
        size was not told.
    received : int
        How many there were.
    """

    needed: int
    received: int


class ImageError(QwenVLPrepError, ValueError):
    """Something about one image; a ``ValueError`` too, as decoders' errors are."""


class NotAnImageError(ImageError):
    """
    The bytes are no picture at all.

    Attributes
    ----------
    kind : str
        What they are instead, for example ``"a PDF document"``.
    """

    kind: str


class UnsupportedFormatError(ImageError):
    """
    A picture, but of a type that is not read here.

    Attributes
    ----------
    format : str
        The type found in the content, for example ``"PSD"``.
    extra : str or None
        Name of the optional extra that reads it, if there is one.
    """

    format: str
    extra: str | None = None


class DamagedImageError(ImageError):
    """
    A header or pixel data that is broken, or a file that ends too early.

    Attributes
    ----------
    format : str
        The type found in the content.
    """

    format: str


class DecodeLimitError(ImageError):
    """
    The header announces more than the limits allow, so nothing was decoded.

    Attributes
    ----------
    limit_name : str
        Which field of :class:`qwenvl_prep.Limits` was exceeded.
    actual, limit : int
        What the header announces, and what is allowed.
    """

    limit_name: str
    actual: int
    limit: int


class FrameError(ImageError):
    """
    The file has no such frame, page or picture.

    Attributes
    ----------
    frame : int
        What was asked for, counted from 0; as it came, if it is no whole number.
    n_frames : int
        How many there are; 0 where the file was not looked at.
    """

    frame: int
    n_frames: int


class AspectRatioError(ImageError):
    """
    One side is more than 200 times the other, so the size rule has no answer.

    Attributes
    ----------
    height, width : int
        Pixels.
    limit : int
        Largest ratio that is legal.
    """

    height: int
    width: int
    limit: int


class IllegalImageError(ImageError):
    """
    Against the model's rules in a way that preparing cannot mend.

    Attributes
    ----------
    findings : tuple of Finding
        Everything that was found, not only the first thing.
    """

    findings: tuple[Finding, ...]


class EncodedSizeError(ImageError):
    """
    The picture does not fit the byte limit at any quality that was tried.

    Attributes
    ----------
    reached, limit : int
        Length of the shortest data URI reached, and the limit, in bytes.
    """

    reached: int
    limit: int


class LegibilityError(ImageError):
    """
    Tiles would be shrunk below the scale at which their text can be read.

    Attributes
    ----------
    scale : float
        The largest scale that fits, sent over original; 0 where nothing fits.
    min_scale : float
        The least that was asked for.
    needed, limit : int or None
        Vision tokens of all tiles at that least scale, and what was allowed; the
        first is None where more tokens alone do not help, the second where there
        was no limit.
    """

    scale: float
    min_scale: float
    needed: int | None
    limit: int | None


class ImagesRefusedError(QwenVLPrepError, ValueError):
    """
    Some of many images were refused.

    Attributes
    ----------
    refused : tuple of (int, str, QwenVLPrepError)
        Position, name and reason of each refused image, in order.
    """

    refused: tuple[tuple[int, str, QwenVLPrepError], ...]

    @classmethod
    def of(
        cls,
        refused: Sequence[tuple[int, str, QwenVLPrepError]],
        total: int,
        noun: str = "image",
    ) -> ImagesRefusedError:
        """Tell the first reasons, each with its place among *total* images."""
        few = refused[:FEW]
        # The only reason is told in full, several as far as a message should be long.
        most = _LONG // len(few) - _AROUND_REASON if len(few) > 1 else None
        reasons = "; ".join(
            f"{noun} {at + 1}: {_beginning(str(exc), most)}" for at, _, exc in few
        )
        left = len(refused) - len(few)
        more = f"; … {left:,} more" if left else ""
        return cls(
            f"{len(refused):,} of {total:,} {noun}s were refused: {reasons}{more}",
            refused=tuple(refused),
        )


class ForkedProcessError(QwenVLPrepError):
    """libvips was used before this process was forked, and may hang in it."""


class BackendError(QwenVLPrepError, ValueError):
    """The environment names native kernels that this CPU cannot run."""


class UnknownModelError(QwenVLPrepError, LookupError):
    """
    No profile has that name.

    Attributes
    ----------
    name : str
        The name asked for.
    nearest : tuple of str
        Known names that look most like it.
    """

    name: str
    nearest: tuple[str, ...]


class UnknownPriceError(QwenVLPrepError, LookupError):
    """
    No price is known for the model.

    Attributes
    ----------
    model : str
        Name of the model.
    """

    model: str


class ModelFeatureError(QwenVLPrepError, ValueError):
    """
    The model cannot do what was asked of it.

    Attributes
    ----------
    model : str
        Name of the model.
    feature : str
        What it lacks, for example ``"high_resolution"``.
    """

    model: str
    feature: str


class ModelTableError(QwenVLPrepError, ValueError):
    """A file of models of the user's own cannot be read, or is not sound."""


class BudgetError(QwenVLPrepError, ValueError):
    """
    Images and text do not fit one request.

    Attributes
    ----------
    needed : int
        Predicted tokens of all images, the text, the chat template and the reserve.
    limit : int
        The model's maximum input; a request must stay below it.
    fits : int
        How many of the images, counted from the first, would fit.
    items : sequence of (str, int)
        Name and predicted billed tokens of each image, in order.
    groups : tuple of range
        Of a split: the positions of images that fit no request even alone; *items*
        are those, and *needed* is what the largest of them takes.
    """

    needed: int
    limit: int
    fits: int
    items: Sequence[tuple[str, int]]
    groups: tuple[range, ...] = ()


class RequestError(QwenVLPrepError, ValueError):
    """A request that the API would refuse as it stands."""


class UnreadableBoxesError(QwenVLPrepError, ValueError):
    """
    A reply names boxes that cannot be read: cut off, or malformed.

    Attributes
    ----------
    boxes : tuple of Box
        Those that are whole, in order.
    promised : int
        How many boxes the reply begins.
    """

    boxes: tuple[Box, ...]
    promised: int


class SendError(QwenVLPrepError):
    """The request was not answered."""


class MissingKeyError(SendError):
    """No API key was given."""


class ConnectionFailedError(SendError):
    """No connection could be made, or it broke before the answer was whole."""


class DeadlineError(SendError):
    """
    No answer came in time.

    Attributes
    ----------
    seconds : float
        The limit that ran out.
    """

    seconds: float


class InterruptedStreamError(SendError):
    """
    A streamed reply broke off before its end.

    Attributes
    ----------
    text : str
        What had arrived until then.
    """

    text: str


class UnreadableReplyError(SendError):
    """
    The answer is not of the form that the API documents.

    Attributes
    ----------
    status : int
        HTTP status of the answer.
    """

    status: int


class ApiError(SendError):
    """
    The API refused the request.

    Attributes
    ----------
    status : int
        HTTP status of the answer; 200 for an error inside a stream.
    code : str
        The API's own code, for example ``"Throttling.RateQuota"``.
    request_id : str or None
        The id that the provider's support asks for.
    """

    status: int
    code: str
    request_id: str | None


class InvalidRequestError(ApiError):
    """400: the request itself is wrong."""


class ContentRefusedError(ApiError):
    """400 DataInspectionFailed: text or picture was held to be unsuitable."""


class ArrearageError(ApiError):
    """400 Arrearage: the account owes money."""


class AuthenticationFailedError(ApiError):
    """401: the key is not valid."""


class AccessDeniedError(ApiError):
    """403: the key may not use this model or workspace."""


class ModelNotFoundError(ApiError):
    """404: no such model, or it has been retired."""


class PayloadTooLargeError(ApiError):
    """413: the body is larger than the API takes."""


class ThrottledError(ApiError):
    """429: too many requests or tokens in this minute; waiting helps."""


class QuotaExhaustedError(ApiError):
    """429: a quota is used up; waiting a minute does not help."""


class ServerFailureError(ApiError):
    """5xx: the API failed."""
