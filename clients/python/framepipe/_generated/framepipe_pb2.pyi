from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hold(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_UNSPECIFIED: _ClassVar[Hold]
    HOLD_REFERENCE: _ClassVar[Hold]
    HOLD_COPY: _ClassVar[Hold]

class PixelFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_FORMAT_UNSPECIFIED: _ClassVar[PixelFormat]
    PIXEL_FORMAT_RGB24: _ClassVar[PixelFormat]
    PIXEL_FORMAT_BGR24: _ClassVar[PixelFormat]
    PIXEL_FORMAT_GRAY8: _ClassVar[PixelFormat]
    PIXEL_FORMAT_NV12: _ClassVar[PixelFormat]
    PIXEL_FORMAT_I420: _ClassVar[PixelFormat]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_SOURCE_GONE: _ClassVar[ErrorCode]
    ERROR_CODE_SOURCE_CHANGED: _ClassVar[ErrorCode]
    ERROR_CODE_UNSUPPORTED_FORMAT: _ClassVar[ErrorCode]
    ERROR_CODE_CORRUPT_IMAGE: _ClassVar[ErrorCode]
    ERROR_CODE_IMAGE_TOO_LARGE: _ClassVar[ErrorCode]
    ERROR_CODE_DEADLINE_EXCEEDED: _ClassVar[ErrorCode]
    ERROR_CODE_POISON: _ClassVar[ErrorCode]
    ERROR_CODE_INFERENCE: _ClassVar[ErrorCode]
    ERROR_CODE_RESULT_TOO_LARGE: _ClassVar[ErrorCode]
    ERROR_CODE_INTERNAL: _ClassVar[ErrorCode]
    ERROR_CODE_DISCARDED: _ClassVar[ErrorCode]
    ERROR_CODE_STORE_DAMAGED: _ClassVar[ErrorCode]
HOLD_UNSPECIFIED: Hold
HOLD_REFERENCE: Hold
HOLD_COPY: Hold
PIXEL_FORMAT_UNSPECIFIED: PixelFormat
PIXEL_FORMAT_RGB24: PixelFormat
PIXEL_FORMAT_BGR24: PixelFormat
PIXEL_FORMAT_GRAY8: PixelFormat
PIXEL_FORMAT_NV12: PixelFormat
PIXEL_FORMAT_I420: PixelFormat
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_SOURCE_GONE: ErrorCode
ERROR_CODE_SOURCE_CHANGED: ErrorCode
ERROR_CODE_UNSUPPORTED_FORMAT: ErrorCode
ERROR_CODE_CORRUPT_IMAGE: ErrorCode
ERROR_CODE_IMAGE_TOO_LARGE: ErrorCode
ERROR_CODE_DEADLINE_EXCEEDED: ErrorCode
ERROR_CODE_POISON: ErrorCode
ERROR_CODE_INFERENCE: ErrorCode
ERROR_CODE_RESULT_TOO_LARGE: ErrorCode
ERROR_CODE_INTERNAL: ErrorCode
ERROR_CODE_DISCARDED: ErrorCode
ERROR_CODE_STORE_DAMAGED: ErrorCode

class PushDataRequest(_message.Message):
    __slots__ = ("location", "sizes", "files", "names", "stream", "deadline_ms", "idempotency_key", "raw", "wait_ms", "hold")
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    location: str
    sizes: _containers.RepeatedScalarFieldContainer[int]
    files: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedScalarFieldContainer[str]
    stream: str
    deadline_ms: int
    idempotency_key: str
    raw: RawFrameFormat
    wait_ms: int
    hold: Hold
    def __init__(self, location: _Optional[str] = ..., sizes: _Optional[_Iterable[int]] = ..., files: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[str]] = ..., stream: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., raw: _Optional[_Union[RawFrameFormat, _Mapping]] = ..., wait_ms: _Optional[int] = ..., hold: _Optional[_Union[Hold, str]] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("push", "data")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    push: PushDataRequest
    data: bytes
    def __init__(self, push: _Optional[_Union[PushDataRequest, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class RawFrameFormat(_message.Message):
    __slots__ = ("format", "width", "height", "stride")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    format: PixelFormat
    width: int
    height: int
    stride: int
    def __init__(self, format: _Optional[_Union[PixelFormat, str]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., stride: _Optional[int] = ...) -> None: ...

class PushDataResponse(_message.Message):
    __slots__ = ("stream", "first_frame", "accepted")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    stream: str
    first_frame: int
    accepted: int
    def __init__(self, stream: _Optional[str] = ..., first_frame: _Optional[int] = ..., accepted: _Optional[int] = ...) -> None: ...

class PullResultRequest(_message.Message):
    __slots__ = ("stream", "after_sequence", "until_drained")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_DRAINED_FIELD_NUMBER: _ClassVar[int]
    stream: str
    after_sequence: int
    until_drained: bool
    def __init__(self, stream: _Optional[str] = ..., after_sequence: _Optional[int] = ..., until_drained: bool = ...) -> None: ...

class FrameResults(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FrameResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FrameResult, _Mapping]]] = ...) -> None: ...

class FrameResult(_message.Message):
    __slots__ = ("name", "sequence", "frame", "batch_index", "detections", "error", "gap", "times", "cached")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    name: str
    sequence: int
    frame: int
    batch_index: int
    detections: Detections
    error: FrameError
    gap: Gap
    times: _containers.RepeatedCompositeFieldContainer[StageTime]
    cached: bool
    def __init__(self, name: _Optional[str] = ..., sequence: _Optional[int] = ..., frame: _Optional[int] = ..., batch_index: _Optional[int] = ..., detections: _Optional[_Union[Detections, _Mapping]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., times: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., cached: bool = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first_sequence", "last_sequence")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    last_sequence: int
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class Detections(_message.Message):
    __slots__ = ("detections", "image_width", "image_height", "detections_dropped", "crops_dropped", "masks_dropped")
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    CROPS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    MASKS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    image_width: int
    image_height: int
    detections_dropped: int
    crops_dropped: int
    masks_dropped: int
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., image_width: _Optional[int] = ..., image_height: _Optional[int] = ..., detections_dropped: _Optional[int] = ..., crops_dropped: _Optional[int] = ..., masks_dropped: _Optional[int] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("class_index", "label", "score", "box", "attributes", "mask")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    label: str
    score: float
    box: Box
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    mask: Mask
    def __init__(self, class_index: _Optional[int] = ..., label: _Optional[str] = ..., score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("x", "y", "width", "height", "counts")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    width: int
    height: int
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("name", "model", "classification", "number", "embedding", "classifications", "keypoints", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    KEYPOINTS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    classification: Classification
    number: float
    embedding: Embedding
    classifications: Classifications
    keypoints: Keypoints
    text: Text
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., number: _Optional[float] = ..., embedding: _Optional[_Union[Embedding, _Mapping]] = ..., classifications: _Optional[_Union[Classifications, _Mapping]] = ..., keypoints: _Optional[_Union[Keypoints, _Mapping]] = ..., text: _Optional[_Union[Text, _Mapping]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("label", "score", "class_index")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    class_index: int
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., class_index: _Optional[int] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Classifications(_message.Message):
    __slots__ = ("classes",)
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[Classification]
    def __init__(self, classes: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ...) -> None: ...

class Keypoints(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Keypoint]
    def __init__(self, points: _Optional[_Iterable[_Union[Keypoint, _Mapping]]] = ...) -> None: ...

class Keypoint(_message.Message):
    __slots__ = ("name", "x", "y", "score")
    NAME_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    x: float
    y: float
    score: float
    def __init__(self, name: _Optional[str] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., score: _Optional[float] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("text", "score")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("stage", "queued_us", "busy_us")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_US_FIELD_NUMBER: _ClassVar[int]
    BUSY_US_FIELD_NUMBER: _ClassVar[int]
    stage: str
    queued_us: int
    busy_us: int
    def __init__(self, stage: _Optional[str] = ..., queued_us: _Optional[int] = ..., busy_us: _Optional[int] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class AckResultsRequest(_message.Message):
    __slots__ = ("stream", "sequence")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    sequence: int
    def __init__(self, stream: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class AckResultsResponse(_message.Message):
    __slots__ = ("kept",)
    KEPT_FIELD_NUMBER: _ClassVar[int]
    kept: int
    def __init__(self, kept: _Optional[int] = ...) -> None: ...
